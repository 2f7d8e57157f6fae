import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole


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
    with pytest.raises(type(error)):
        write_whole(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


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
