import errno
import io
import json
import os
import socket
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.errors import InputError
from cimm_jax.files import (
    UnreadableError,
    UnwritableError,
    check_name,
    entries,
    output_folder,
    read_regular,
    write_json,
    write_whole,
)


@pytest.mark.parametrize(("content", "expected"), [("κ\n", "κ\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")])
def test_content_is_written_whole_and_replaces_what_was_there(tmp_path, content, expected):
    path = tmp_path / "results.json"
    path.write_text("a longer text than the new one")
    assert write_whole(path, content) == path
    assert path.read_bytes() == expected
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("broken", ["fdopen", "chmod", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken, error):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(*arguments):
        raise error

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(InputError if isinstance(error, OSError) else type(error)):
        write_whole(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("full", ["write", "close", "replace", "mkstemp"])
def test_a_full_disk_is_one_line_and_what_was_there_stays(tmp_path, monkeypatch, full):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full(io.FileIO):
        """A file on a full disk: some systems say so at once, some when it is closed."""

        def write(self, data):
            return fail() if full == "write" else super().write(data)

        def close(self):
            super().close()
            if full == "close":
                fail()

    if full in ("write", "close"):
        monkeypatch.setattr(os, "fdopen", Full)
    else:
        monkeypatch.setattr(tempfile if full == "mkstemp" else os, full, fail)
    with pytest.raises(UnwritableError) as caught:
        write_whole(path, "new")
    assert str(caught.value).startswith(f"--out: cannot write {path} (No space left on device); make room")
    assert caught.value.reason == "No space left on device"
    with pytest.raises(InputError, match=r"^cache: cannot write"):
        write_json(path, {}, "cache")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_a_device_that_is_full_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: (os.open("/dev/full", os.O_WRONLY), str(tmp_path / "none")))
    with pytest.raises(UnwritableError, match="No space left on device"):
        write_whole(tmp_path / "results.json", "new" * 10_000)


def test_a_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")
    seen = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (seen.append(path.read_text()), replace(*paths)))
    write_whole(path, "new")
    assert (seen, path.read_text()) == (["old"], "new")


def test_json_has_null_for_what_is_not_finite_and_lists_for_arrays(tmp_path):
    content = {
        "nan": float("nan"),
        "infinite": [float("inf"), -float("inf"), 1.5],
        "array": np.array([[1.0, np.nan], [2.0, np.inf]]),
        "jax": jnp.array([1.0, jnp.inf]),
        "scalar": np.float64("nan"),
        "tuple": (1, True, None, "text"),
        3: np.int64(4),
    }

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = write_json(tmp_path / "results.json", content).read_text()
    assert text.endswith("}\n")
    assert json.loads(text, parse_constant=refuse) == {
        "nan": None,
        "infinite": [None, None, 1.5],
        "array": [[1.0, None], [2.0, None]],
        "jax": [1.0, None],
        "scalar": None,
        "tuple": [1, True, None, "text"],
        "3": 4,
    }


def test_content_that_is_not_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def read(path, most=10):
    return read_regular(path, "data", most=most, cure="take another")


def test_a_regular_file_is_read_up_to_a_bound(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read(tmp_path / "file") == read(tmp_path / "link") == b"0123456789"
    with pytest.raises(
        UnreadableError, match=r"^data: .*/file cannot be read \(10 bytes, of which at most 9 are read\); take"
    ):
        read(tmp_path / "file", most=9)
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnreadableError, match="1,099,511,627,776 bytes, of which at most 10 are read"):
        read(tmp_path / "sparse")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs a file whose size its system does not know")
def test_a_file_that_is_longer_than_it_says_is_not_read_on():
    with pytest.raises(UnreadableError, match="more than 10 bytes"):
        read(Path("/proc/self/status"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file or directory"),
        ("folder", "a folder"),
        ("pipe", "no regular file"),
        ("socket", "No such device or address"),
        ("device", "no regular file"),
        ("file/below", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("x" * 300, "File name too long"),
    ],
)
def test_what_is_no_regular_file_is_named_and_never_waited_for(tmp_path, monkeypatch, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(UnreadableError, match=r"^data: ") as caught:
            read(tmp_path / name)
    assert caught.value.reason == reason


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    for look in (lambda: read(tmp_path / "file"), lambda: entries(tmp_path, "data", cure="take another")):
        with pytest.raises(UnreadableError, match=r"^data: .* cannot be read \(Permission denied\); take another$"):
            look()


@pytest.mark.parametrize("name", ["half\udcff", "nothing\0"])
def test_a_name_that_is_no_text_is_refused_before_anything_holds_it(tmp_path, name):
    for use in (read, output_folder, lambda path: check_name(path, "data")):
        with pytest.raises(InputError, match="is no name in UTF-8; rename it") as caught:
            use(tmp_path / name)
        str(caught.value).encode()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
def test_descriptors_do_not_run_out(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with pytest.raises(UnreadableError):
            read(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_output_folder_is_made_with_its_parents_and_left_empty(tmp_path):
    folder = output_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())
    assert output_folder(folder) == folder


@pytest.mark.parametrize("below", ["", "folder"])
def test_an_output_folder_that_cannot_be_written_is_named(tmp_path, below):
    file = tmp_path / "file"
    file.write_text("not a folder")
    with pytest.raises(InputError, match=r"^--out: cannot write to .*file.*; choose a folder"):
        output_folder(file / below)
    with pytest.raises(InputError, match=r"^folder: cannot write to"):
        output_folder(file / below, "folder")
