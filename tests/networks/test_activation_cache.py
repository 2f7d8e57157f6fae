"""The cache of trunk outputs: right, resumed, reused only for the same things, and small in memory."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from networks.small_networks import NETWORK, filled
from processes import started

from cimm_jax.data.augmentation import PaddedCrop
from cimm_jax.data.image_set import ArrayPixels, ImageSet
from cimm_jax.data.image_views import with_views
from cimm_jax.errors import InputError
from cimm_jax.networks import activation_cache, functional
from cimm_jax.networks.activation_cache import Entry, cached_outputs

MAPS = Path("/proc/self/maps")


@pytest.fixture(scope="module")
def model():
    return filled(NETWORK)


@pytest.fixture
def images(rng):
    return image_set(rng.integers(0, 256, (7, 16, 16, 3)).astype(np.uint8))


def image_set(pixels, sha256="a"):
    return ImageSet(ArrayPixels(pixels), np.zeros(len(pixels), np.int64), ("a",), sha256)


def cached(folder, model, images, **settings):
    return cached_outputs(folder, model, images, **{"weights_sha256": "w", "batch_rows": 3, **settings})


@pytest.mark.parametrize("cut", ["features", "layer3.0"])
def test_outputs_are_the_trunks_whatever_the_batch(tmp_path, model, images, cut):
    outputs = cached(tmp_path, model, images, cut=cut)
    expected = model.trunk(model.config.preprocess(np.stack([images.pixels[i] for i in range(7)])), cut)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    assert isinstance(outputs, np.memmap)
    assert outputs.dtype == np.float32
    assert not outputs.flags.writeable


def test_a_second_call_computes_nothing_and_another_manifest_does(tmp_path, model, images, monkeypatch):
    first = np.array(cached(tmp_path, model, images))
    calls = []
    compute = activation_cache._compute
    monkeypatch.setattr(activation_cache, "_compute", lambda *a: calls.append(1) or compute(*a))
    done = []
    assert np.array_equal(cached(tmp_path, model, images, progress=done.append), first)
    assert cached(tmp_path, model, images, batch_rows=7).shape == first.shape
    assert (calls, done) == ([], [7])
    other = dataclasses.replace(images, sha256="b")
    darker = filled(dataclasses.replace(NETWORK, preprocess=dataclasses.replace(NETWORK.preprocess, mean=(9.0,) * 3)))
    cached(tmp_path, model, other)
    cached(tmp_path, model, images, weights_sha256="v")
    cached(tmp_path, model, images, cut="layer3.0")
    assert not np.allclose(cached(tmp_path, darker, images), first)
    assert len(calls) == 4
    assert np.array_equal(cached(tmp_path, model, images), first)
    assert len(calls) == 4


def test_a_manifest_that_does_not_match_its_file_is_not_believed(tmp_path, model, images):
    first = np.array(cached(tmp_path, model, images))
    (description,) = tmp_path.glob("*.json")
    (array,) = tmp_path.glob("*.npy")
    np.save(array, np.zeros_like(first))
    described = json.loads(description.read_text())
    described["made_by"]["weights_sha256"] = "another"
    description.write_text(json.dumps(described))
    assert np.array_equal(cached(tmp_path, model, images), first)


DAMAGE = {
    "cut short": lambda content: content[:-5],
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "no array": lambda content: b"\x93NUMPZ" + content[6:],
    "other numbers": lambda content: content.replace(b"<f4", b"<f2"),
    "other rows": lambda content: content.replace(b"(7,", b"(6,"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_array_is_computed_again_and_named(tmp_path, model, images, capsys, damage):
    first = np.array(cached(tmp_path, model, images))
    (array,) = tmp_path.glob("*.npy")
    array.write_bytes(DAMAGE[damage](array.read_bytes()))
    assert np.array_equal(cached(tmp_path, model, images), first)
    told = capsys.readouterr()
    assert told.out == ""
    assert f"cimm: {array} or what is noted of it is damaged; it is computed again\n" == told.err
    assert np.array_equal(cached(tmp_path, model, images), first)
    assert capsys.readouterr().err == "", "once"


CONTENTS = ["", "{", "[]", "{}", "3", '"text"', "null", "[" * 100_000, b"\xff\xfe".decode("latin1")]
NOTES = ["text", [1], {"a": 1}, None, -1, 8, 10**30, 6.5, True, "Infinity"]


@pytest.mark.parametrize("text", CONTENTS, ids=range(len(CONTENTS)))
def test_damaged_notes_of_a_finished_array_are_computed_again(tmp_path, model, images, capsys, text):
    first = np.array(cached(tmp_path, model, images))
    (notes,) = tmp_path.glob("*.json")
    notes.write_text(text)
    assert np.array_equal(cached(tmp_path, model, images), first)
    assert "is damaged; it is computed again" in capsys.readouterr().err


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("content", NOTES, ids=repr)
def test_notes_that_make_no_sense_are_not_believed(tmp_path, model, images, capsys, content, finished):
    def stop(done):
        if done == 6:
            raise KeyboardInterrupt

    first = np.array(cached(tmp_path / "whole", model, images))
    if finished:
        cached(tmp_path, model, images)
    else:
        with pytest.raises(KeyboardInterrupt):
            cached(tmp_path, model, images, progress=stop)
    (notes,) = tmp_path.glob("*.json")
    described = json.loads(notes.read_text())
    notes.write_text(json.dumps({**described, "content": content}))
    assert np.array_equal(cached(tmp_path, model, images), first)
    assert ("is damaged" in capsys.readouterr().err) == (finished or content is not None)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_beginning_is_computed_again(tmp_path, model, images, capsys, damage):
    def stop(done):
        if done == 6:
            raise KeyboardInterrupt

    first = np.array(cached(tmp_path / "whole", model, images))
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, model, images, progress=stop)
    (partial,) = tmp_path.glob("*.partial.npy")
    partial.write_bytes(DAMAGE[damage](partial.read_bytes()))
    np.testing.assert_array_equal(cached(tmp_path, model, images), first)
    assert f"{partial} or what is noted of it is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["array", "notes"])
def test_a_full_disk_is_one_line(tmp_path, model, images, monkeypatch, broken):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cached(tmp_path, model, images)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(*{"array": (Path, "open"), "notes": (os, "replace")}[broken], full)
    with pytest.raises(InputError, match=r"^cache: cannot use .* \(No space left on device\); make room"):
        cached(tmp_path, model, dataclasses.replace(images, sha256="b"))
    monkeypatch.undo()
    assert before.items() <= {path: path.read_bytes() for path in tmp_path.iterdir()}.items(), "what was there stays"


def test_outputs_that_are_not_finite_are_not_kept(tmp_path, images):
    model = filled(NETWORK)
    model.parts["layer3.0"].second.conv.kernel[...] = jnp.full_like(
        model.parts["layer3.0"].second.conv.kernel[...], 3e38
    )
    with pytest.raises(InputError, match="weights: features of images 0 to 2 is infinite; use other weights"):
        cached(tmp_path, model, images)
    assert not list(tmp_path.glob("*.npy"))


def test_an_interrupted_computation_goes_on_where_it_was(tmp_path, model, images):
    def stop(done):
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, model, images, progress=stop)
    assert [path.name.split(".")[1] for path in tmp_path.glob("*.npy")] == ["partial"], "nothing passes for finished"

    read = []

    class Watched(ArrayPixels):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    pixels = np.stack([images.pixels[i] for i in range(7)])
    resumed = cached(tmp_path, model, dataclasses.replace(images, pixels=Watched(pixels)))
    assert read == [6]
    np.testing.assert_array_equal(resumed, cached(tmp_path / "other", model, images))
    assert not list(tmp_path.glob("*.partial.npy"))


def test_views_go_on_where_they_were_and_are_another_entry(tmp_path, model, images):
    def stop(done):
        if done == 9:
            raise KeyboardInterrupt

    viewed = with_views(images, 3, PaddedCrop(16, (0, 0, 0)))
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, model, viewed, progress=stop)
    outputs = cached(tmp_path, model, viewed)
    assert outputs.shape == (21, 12)
    np.testing.assert_array_equal(outputs, cached(tmp_path / "other", model, viewed))
    np.testing.assert_allclose(outputs[:7], cached(tmp_path, model, images), rtol=1e-4, atol=1e-5)
    manifests = [json.loads(path.read_text())["made_by"] for path in tmp_path.glob("*.json")]
    assert sorted(made_by.get("views", 1) for made_by in manifests) == [1, 3]


def test_an_entry_notes_rows_as_they_are_written_and_is_complete_when_it_has_its_name(tmp_path, rng):
    rows = rng.standard_normal((5, 2)).astype(np.float32)
    entry = Entry(tmp_path, {"model": "m", "rows": 5})
    assert (entry.rows_done(), entry.complete()) == (0, False)
    entry.begin((5, 2))
    assert entry.rows_done() == 0
    entry.write(0, rows[:3])
    assert Entry(tmp_path, {"model": "m", "rows": 5}).rows_done() == 3
    assert Entry(tmp_path, {"model": "other", "rows": 5}).rows_done() == 0
    entry.write(3, rows[3:])
    assert (entry.rows_done(), entry.complete()) == (5, False)
    entry.finish()
    again = Entry(tmp_path, {"model": "m", "rows": 5})
    assert again.complete()
    np.testing.assert_array_equal(np.load(again.array), rows)
    assert not Entry(tmp_path, {"model": "other", "rows": 5}).complete()


def test_rows_that_are_noted_but_not_there_are_computed_again(tmp_path):
    entry = Entry(tmp_path, {"model": "m", "rows": 5})
    entry.begin((5, 2))
    entry.write(0, np.ones((3, 2), np.float32))
    entry.partial.unlink()
    assert entry.rows_done() == 0


def test_what_was_noted_of_an_earlier_file_does_not_count_for_a_new_one(tmp_path):
    """Else a process that dies between making the file and its first rows would leave zeros that count as rows."""
    entry = Entry(tmp_path, {"model": "m", "rows": 5})
    entry.begin((5, 2))
    entry.write(0, np.ones((3, 2), np.float32))
    entry.partial.unlink()
    Entry(tmp_path, {"model": "m", "rows": 5}).begin((5, 2))
    assert Entry(tmp_path, {"model": "m", "rows": 5}).rows_done() == 0


BESIDE = """
import sys
import threading
from pathlib import Path

import numpy as np
from networks.small_networks import NETWORK, filled

from cimm_jax.data.image_set import ArrayPixels, ImageSet
from cimm_jax.networks.activation_cache import cached_outputs

class Held(ArrayPixels):
    first = threading.Lock()  # of the threads that read images, one says that it waits

    def __getitem__(self, index):
        if self.first.acquire(blocking=False):
            print("computing", flush=True)
            sys.stdin.readline()
        return super().__getitem__(index)

pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3)).astype(np.uint8)
images = ImageSet(Held(pixels), np.zeros(24, np.int64), ("a",), "a")
found = cached_outputs(Path(sys.argv[1]), filled(NETWORK), images, weights_sha256="w", batch_rows=8)
np.save(sys.argv[2], found)
"""


def test_two_processes_at_once_take_turns_and_both_have_every_row(tmp_path):
    """Before, both wrote one file, and one of them returned rows of zeros."""
    command = [sys.executable, "-c", BESIDE, str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    files = [tmp_path / f"{number}.npy" for number in range(2)]
    first = started([*command, str(files[0])], stdin=subprocess.PIPE, env=environment)
    assert first.stdout.readline() == "computing\n"
    second = started([*command, str(files[1])], stdin=subprocess.PIPE, env=environment)
    assert second.stderr.readline().startswith(f"cimm: waiting for process {first.pid} on ")
    told = [process.communicate("\n", timeout=120) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], told
    assert "computing" not in told[1][0]
    outputs, others = map(np.load, files)
    np.testing.assert_array_equal(outputs, others)
    assert (outputs != 0).any(1).all()
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".json", ".npy"]


@pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's list of mapped files")
def test_what_was_written_does_not_stay_in_memory(tmp_path, model, images):
    mapped = []
    cached(tmp_path, model, images, progress=lambda done: mapped.append(".partial.npy" in MAPS.read_text()))
    assert mapped == [False] * 4


def test_one_program_serves_every_batch(tmp_path, model, images, monkeypatch):
    trunk, traces = functional.trunk, []

    def traced(parts, x, cut):
        traces.append(x.shape)
        return trunk(parts, x, cut)

    monkeypatch.setattr(functional, "trunk", traced)
    cached(tmp_path, model, images)
    assert traces == [(3, 16, 16, 3)]


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"cut": "layer9"}, "layer3.0"), ({"batch_rows": 8}, "1 to 7"), ({"batch_rows": 0}, "1 to 7")],
)
def test_bad_settings_are_refused(tmp_path, model, images, settings, named):
    with pytest.raises(InputError, match=named):
        cached(tmp_path, model, images, **settings)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, model, images):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cache"):
        cached(tmp_path / "file" / "cache", model, images)
