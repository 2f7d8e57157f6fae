"""Work that was cut off goes on from a whole state, and only if the same things made it."""

import json
import shutil
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax import InputError
from cimm_jax.resuming import Checkpoint, MadeBy

# --- a file that says what made it ---


def test_content_is_read_again_by_the_same_makers(tmp_path):
    file = MadeBy(tmp_path / "rows.json", {"steps": 3, "rates": (0.1, 1.0)})
    assert file.read() is None
    file.write({"done": 7})
    again = MadeBy(tmp_path / "rows.json", {"rates": [0.1, 1.0], "steps": 3})
    assert again.read() == {"done": 7}, "JSON knows no tuples and no order"


@pytest.mark.parametrize("other", [{"steps": 4}, {"steps": 3, "more": None}, {}, None])
def test_others_read_nothing_of_it_but_may_ask_what_is_there(tmp_path, other):
    MadeBy(tmp_path / "rows.json", {"steps": 3}).write(7)
    assert MadeBy(tmp_path / "rows.json", other).read() is None
    assert MadeBy(tmp_path / "rows.json", other).read_whoever_made_it() == 7
    MadeBy(tmp_path / "rows.json", other).write(8)
    assert MadeBy(tmp_path / "rows.json", {"steps": 3}).read() is None
    assert MadeBy(tmp_path / "rows.json", other).read() == 8


@pytest.mark.parametrize("damaged", ["", '{"made_by": {"steps": 3}, "cont', "[1, 2]", "7", "null", "\x00"])
def test_a_damaged_file_has_no_content(tmp_path, damaged):
    (tmp_path / "rows.json").write_text(damaged)
    file = MadeBy(tmp_path / "rows.json", {"steps": 3})
    assert file.read() is None
    assert file.read_whoever_made_it() is None
    file.write(7)
    assert file.read() == 7


# --- the state of long work ---


class State(NamedTuple):
    weights: Any
    key: Any
    steps: Any
    parts: Any


def state(seed=0, rows=3):
    keys = jax.random.split(jax.random.key(seed), 2)
    weights = jax.random.normal(keys[0], (rows, 2), jnp.float32)
    return State(weights, keys, np.int32(seed), {"wide": jnp.full(rows, seed, jnp.float64), "one": keys[0]})


def assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        is_key = jnp.issubdtype(one.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(*map(jax.random.key_data, (one, other)) if is_key else (one, other))


def restored(checkpoint, rows=3):
    return checkpoint.restore(lambda notes: state(9, rows))


def saved(folder, made_by, seed):
    checkpoint = Checkpoint(folder, made_by)
    checkpoint.save(state(seed), {"seed": seed})
    return checkpoint


def test_a_state_with_keys_comes_back_as_it_was(tmp_path):
    saved(tmp_path / "work", {"a": 1}, 5)
    found, notes = restored(Checkpoint(tmp_path / "work", {"a": 1}))
    assert_same(found, state(5))
    assert notes == {"seed": 5}
    np.testing.assert_array_equal(jax.random.normal(found.key[1]), jax.random.normal(state(5).key[1]))


def test_shapes_are_enough_and_may_depend_on_the_notes(tmp_path):
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.save(state(5, rows=4), {"rows": 4})
    found, _ = checkpoint.restore(lambda notes: jax.eval_shape(lambda: state(9, notes["rows"])))
    assert_same(found, state(5, rows=4))


def test_without_a_save_there_is_nothing(tmp_path):
    assert restored(Checkpoint(tmp_path, {"a": 1})) is None


def test_what_something_else_made_is_not_restored(tmp_path):
    saved(tmp_path, {"a": 1}, 5)
    assert restored(Checkpoint(tmp_path, {"a": 2})) is None


@pytest.mark.parametrize("damaged", ["", '{"made_by": {"a": 1}, "content": {"sta', "[]"])
def test_a_damaged_index_restores_nothing_and_is_written_anew(tmp_path, damaged):
    checkpoint = saved(tmp_path, {"a": 1}, 5)
    (tmp_path / "checkpoint.json").write_text(damaged)
    assert restored(checkpoint) is None
    checkpoint.save(state(6), {"seed": 6})
    assert_same(restored(checkpoint)[0], state(6))


def test_each_save_takes_the_place_of_the_last_but_one(tmp_path):
    checkpoint, folders = Checkpoint(tmp_path, {}), []
    for seed in range(5):
        checkpoint.save(state(seed), {"seed": seed})
        assert_same(restored(checkpoint)[0], state(seed))
        folders.append(json.loads((tmp_path / "checkpoint.json").read_text())["content"]["state"])
    assert len(set(folders)) == 2
    assert folders[::2] == folders[:1] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"checkpoint.json", *folders})


def fail_while_writing(monkeypatch):
    """The process dies in the middle of a save, when all that stood in its folder is gone."""
    import orbax.checkpoint

    def half(self, directory, *given, **settings):
        shutil.rmtree(directory, ignore_errors=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", half)


def fail_before_the_index_is_written(monkeypatch):
    def fail(self, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(MadeBy, "write", fail)


@pytest.mark.parametrize("made_by", [{"a": 1}, {"a": 2}], ids=["by the same", "by something else"])
@pytest.mark.parametrize("dies", [fail_while_writing, fail_before_the_index_is_written])
@pytest.mark.parametrize("saves", [1, 2])
def test_a_save_that_is_cut_off_leaves_the_state_that_the_index_names(tmp_path, monkeypatch, made_by, dies, saves):
    for seed in range(saves):
        checkpoint = saved(tmp_path, {"a": 1}, seed)
    with monkeypatch.context() as patched:
        dies(patched)
        with pytest.raises(KeyboardInterrupt):
            Checkpoint(tmp_path, made_by).save(state(7), {"seed": 7})
    found, notes = restored(checkpoint)
    assert_same(found, state(saves - 1))
    assert notes == {"seed": saves - 1}
    saved(tmp_path, made_by, 8)
    assert_same(restored(Checkpoint(tmp_path, made_by))[0], state(8))


def test_saves_that_come_too_soon_are_left_out(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint, found = Checkpoint(tmp_path, {}, seconds_between_saves=60), []
    for seed, later in enumerate((59.0, 60.5, 119.0, 121.0)):
        now[0] = 100.0 + later
        checkpoint.save(state(seed), {"seed": seed})
        restored_now = restored(checkpoint)
        found.append(None if restored_now is None else restored_now[1]["seed"])
    assert found == [None, 1, 1, 3]


def test_finished_work_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "work"
    checkpoint = saved(folder, {}, 5)
    checkpoint.remove()
    assert not folder.exists()
    checkpoint.remove()
    assert restored(Checkpoint(folder, {})) is None


def test_a_folder_that_cannot_be_made_is_named_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^checkpoint: cannot write to"):
        Checkpoint(tmp_path / "file" / "work", {})
