import hashlib
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from cimm_jax.errors import InputError
from cimm_jax.networks.sources import PUBLISHED, HubWeights, from_hub, from_package

CONTENT = b"weights" * 1000
WEIGHTS = HubWeights("owner/name", "0123456789" * 4, hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def hub():
    """A stand-in for the hub: the endpoint, the paths asked for, and how many bytes it breaks off after."""

    class Hub:
        asked: list[str] = []  # noqa: RUF012 - one list for each use of the fixture
        sent = len(CONTENT)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            Hub.asked.append(self.path)
            if "owner/name" not in self.path:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: Hub.sent])

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield Hub
        server.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(hub, tmp_path):
    path = from_hub(WEIGHTS, cache=tmp_path, endpoint=hub.endpoint)
    assert path.read_bytes() == CONTENT
    assert hub.asked == [f"/owner/name/resolve/{WEIGHTS.revision}/model.safetensors"]
    assert from_hub(WEIGHTS, cache=tmp_path, endpoint=hub.endpoint) == path
    assert len(hub.asked) == 1


def test_a_revision_has_its_own_place_in_the_cache(hub, tmp_path):
    other = replace(WEIGHTS, revision="f" * 40)
    paths = {from_hub(weights, cache=tmp_path, endpoint=hub.endpoint) for weights in (WEIGHTS, other)}
    assert len(paths) == 2


def test_the_cache_is_where_the_desktop_puts_caches(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert from_hub(WEIGHTS, endpoint=hub.endpoint).is_relative_to(tmp_path / "cimm_jax")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert from_hub(WEIGHTS, endpoint=hub.endpoint).is_relative_to(tmp_path / "home" / ".cache" / "cimm_jax")


def test_a_file_of_another_checksum_is_refused_and_not_kept(hub, tmp_path):
    with pytest.raises(InputError, match=f"has SHA-256 {WEIGHTS.sha256}, expected {'0' * 64}"):
        from_hub(replace(WEIGHTS, sha256="0" * 64), cache=tmp_path, endpoint=hub.endpoint)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_without_a_known_checksum_is_taken(hub, tmp_path):
    assert from_hub(replace(WEIGHTS, sha256=None), cache=tmp_path, endpoint=hub.endpoint).read_bytes() == CONTENT


def test_a_cached_file_that_changed_is_refused(hub, tmp_path):
    path = from_hub(WEIGHTS, cache=tmp_path, endpoint=hub.endpoint)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError, match=r"in the cache has SHA-256 .*; delete it"):
        from_hub(WEIGHTS, cache=tmp_path, endpoint=hub.endpoint)


def test_a_download_that_breaks_off_is_refused_and_not_kept(hub, tmp_path):
    hub.sent = 10
    with pytest.raises(InputError, match=r"cannot be downloaded \(IncompleteRead"):
        from_hub(replace(WEIGHTS, sha256=None), cache=tmp_path, endpoint=hub.endpoint)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "nonsense"])
def test_a_hub_that_cannot_be_reached_is_one_message(endpoint, tmp_path):
    with pytest.raises(InputError, match=r"weights: .* cannot be downloaded .*; connect to a network, or give a file"):
        from_hub(WEIGHTS, cache=tmp_path, endpoint=endpoint)


def test_a_repository_that_is_not_there_is_one_message(hub, tmp_path):
    with pytest.raises(InputError, match="404"):
        from_hub(replace(WEIGHTS, repository="owner/other"), cache=tmp_path, endpoint=hub.endpoint)


@pytest.mark.parametrize("revision", ["main", "0123456", "A" * 40, "0" * 40 + "\n"])
def test_a_revision_that_can_move_is_refused(revision, tmp_path):
    with pytest.raises(InputError, match="revision: need the 40 hexadecimal digits of a commit"):
        from_hub(replace(WEIGHTS, revision=revision), cache=tmp_path)


@pytest.mark.parametrize("repository", ["name", "../../name", "owner/name/more", "../name"])
def test_a_repository_that_is_not_owner_and_name_is_refused(repository, tmp_path):
    with pytest.raises(InputError, match="repository: need owner/name"):
        from_hub(replace(WEIGHTS, repository=repository), cache=tmp_path)


def test_a_name_that_is_not_published_is_refused_with_those_that_are(tmp_path):
    with pytest.raises(InputError, match="weights: 'resnet99' is unknown; choose one of resnet18, vit_b16"):
        from_hub("resnet99", cache=tmp_path)


def test_published_weights_are_pinned(hub, tmp_path):
    for name, weights in PUBLISHED.items():
        with pytest.raises(InputError, match="404"):
            from_hub(name, cache=tmp_path, endpoint=hub.endpoint)
        assert hub.asked[-1] == f"/{weights.repository}/resolve/{weights.revision}/model.safetensors"


def test_a_package_is_asked_for_its_data_file(tmp_path, monkeypatch):
    package = tmp_path / "made_up_weights"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data" / "net.safetensors").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path)
    assert from_package("made_up_weights", "data/net.safetensors").read_bytes() == CONTENT
    with pytest.raises(InputError, match=r"package: made_up_weights has no file net\.safetensors"):
        from_package("made_up_weights", "net.safetensors")
    with pytest.raises(InputError, match="package: not_there is not installed"):
        from_package("not_there", "net.safetensors")
