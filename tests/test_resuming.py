"""Work that was cut off goes on from a whole state, and only if the same things made it."""

import json
import os
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


NUMBERS = {"rate": float("nan"), "most": float("inf"), "least": [-float("inf"), 1.5]}


def test_numbers_that_are_not_finite_match_and_come_back(tmp_path):
    MadeBy(tmp_path / "rows.json", NUMBERS).write({**NUMBERS, "loss": np.float32([1.5, np.nan])})
    again = MadeBy(tmp_path / "rows.json", {**NUMBERS, "rate": np.float64("nan")})
    found = again.read()
    assert np.isnan([found["rate"], found["loss"][1]]).all()
    assert (found["most"], found["least"], found["loss"][0]) == (np.inf, [-np.inf, 1.5], 1.5)
    for other in ({"rate": "NaN"}, {"rate": None}, {"rate": 0.0}, {"most": -np.inf}, {"least": [np.inf, 1.5]}):
        assert MadeBy(tmp_path / "rows.json", {**NUMBERS, **other}).read() is None


def test_a_pipe_is_no_content_and_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "rows.json")
    assert MadeBy(tmp_path / "rows.json", 1).read() is None


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


def test_each_save_takes_the_place_of_the_last_but_one(tmp_path):
    checkpoint = Checkpoint(tmp_path, {})
    for seed in range(5):
        checkpoint.save(state(seed), {"seed": seed})
        assert_same(restored(checkpoint)[0], state(seed))
        saved = {json.loads(path.read_text())["content"]["notes"]["seed"] for path in tmp_path.glob("*.json")}
        assert saved == {seed, max(0, seed - 1)}
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"even", "odd"}


def newest(folder):
    """The slot of the last save, and the file that says what made it."""
    about = max(folder.glob("*.json"), key=lambda path: json.loads(path.read_text())["content"]["number"])
    return about.with_suffix(""), about


def large(path):
    return max((file for file in path.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "the state's folder is gone": lambda state, about: shutil.rmtree(state),
    "a file of the state is gone": lambda state, about: large(state).unlink(),
    "a file of the state is cut short": lambda state, about: truncate(large(state)),
    "a bit of the state is wrong": lambda state, about: flip_a_bit(large(state)),
    "the state is a file": lambda state, about: (shutil.rmtree(state), state.write_text("")),
    "what is said of it is empty": lambda state, about: about.write_text(""),
    "what is said of it is cut short": lambda state, about: truncate(about),
    "what is said of it is a list": lambda state, about: about.write_text("[]"),
    "what is said of it is nested too deep": lambda state, about: about.write_text("[" * 100_000),
    "what is said of it has no notes": lambda state, about: edit(about, lambda content: content.pop("notes")),
    "what is said of it has no files": lambda state, about: edit(about, lambda content: content.pop("files")),
    "its number is text": lambda state, about: edit(about, lambda content: content.update(number="1")),
}


def edit(about, change):
    found = json.loads(about.read_text())
    change(found["content"])
    about.write_text(json.dumps(found))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_of_two_states_the_whole_one_is_taken_and_of_none_nothing(tmp_path, capsys, damage):
    for seed in (5, 6):
        saved(tmp_path, {"a": 1}, seed)
    first = newest(tmp_path)
    damage(*first)
    found, notes = restored(Checkpoint(tmp_path, {"a": 1}))
    assert_same(found, state(5))
    assert notes == {"seed": 5}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cimm: a saved state is damaged, goes on from another saved state (")
    (other,) = set(tmp_path.glob("*.json")) - {first[1]}
    damage(other.with_suffix(""), other)
    assert restored(Checkpoint(tmp_path, {"a": 1})) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cimm: a saved state is damaged, starts anew (")
    saved(tmp_path, {"a": 1}, 7)
    assert_same(restored(Checkpoint(tmp_path, {"a": 1}))[0], state(7))


def test_a_whole_state_of_something_else_is_nothing_to_go_on_from(tmp_path, capsys):
    saved(tmp_path, {"a": 1}, 5)
    saved(tmp_path, {"a": 2}, 6)
    shutil.rmtree(newest(tmp_path)[0])
    assert restored(Checkpoint(tmp_path, {"a": 2})) is None
    assert "starts anew" in capsys.readouterr().err
    assert_same(restored(Checkpoint(tmp_path, {"a": 1}))[0], state(5))
    assert capsys.readouterr().err == ""


def test_a_file_that_names_another_folder_is_not_followed(tmp_path, capsys):
    """As an index of an earlier version did, "state" could name any folder."""
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "work"
    saved(elsewhere, {"a": 1}, 5)
    folder.mkdir()
    for name in ("checkpoint", "even", "odd"):
        content = {"made_by": {"a": 1}, "content": {"state": "../elsewhere/even", "notes": {}, "number": 1}}
        (folder / f"{name}.json").write_text(json.dumps(content))
    assert restored(Checkpoint(folder, {"a": 1})) is None
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_keys_of_another_generator_come_back_as_what_they_were(tmp_path, capsys):
    kinds = ("threefry2x32", "rbg", "unsafe_rbg")
    for kind in kinds:
        key = jax.random.split(jax.random.key(3, impl=kind), 2)
        checkpoint = Checkpoint(tmp_path / kind, {})
        checkpoint.save({"key": key}, {})
        found, _ = checkpoint.restore(lambda notes, key=key: jax.eval_shape(lambda: {"key": key}))
        assert found["key"].dtype == key.dtype
        np.testing.assert_array_equal(jax.random.normal(found["key"][1]), jax.random.normal(key[1]))
        assert capsys.readouterr().err == ""
    for other in ("threefry2x32", "unsafe_rbg"):
        like = {"key": jax.random.split(jax.random.key(3, impl=other), 2)}
        assert Checkpoint(tmp_path / "rbg", {}).restore(lambda notes, like=like: like) is None
        assert "its arrays are of other types or shapes" in capsys.readouterr().err


def fail_while_writing(monkeypatch):
    """The process dies in the middle of a save, when all that stood in its folder is gone."""
    import orbax.checkpoint

    def half(self, directory, *given, **settings):
        shutil.rmtree(directory, ignore_errors=True)
        raise SystemExit("killed")

    monkeypatch.setattr(orbax.checkpoint.StandardCheckpointer, "save", half)


def fail_before_the_index_is_written(monkeypatch):
    def fail(self, content):
        raise SystemExit("killed")

    monkeypatch.setattr(MadeBy, "write", fail)


def test_what_a_save_left_that_was_cut_off_is_removed(tmp_path):
    checkpoint = saved(tmp_path, {}, 5)
    for name in ("even.orbax-checkpoint-tmp", "odd.orbax-checkpoint-tmp-7"):
        (tmp_path / name / "d").mkdir(parents=True)
    for seed in (6, 7):
        checkpoint.save(state(seed), {"seed": seed})
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"even", "odd"}


@pytest.mark.parametrize("made_by", [{"a": 1}, {"a": 2}], ids=["by the same", "by something else"])
@pytest.mark.parametrize("dies", [fail_while_writing, fail_before_the_index_is_written])
@pytest.mark.parametrize("saves", [1, 2])
def test_a_save_that_is_cut_off_leaves_the_state_that_was_whole(tmp_path, monkeypatch, made_by, dies, saves):
    for seed in range(saves):
        checkpoint = saved(tmp_path, {"a": 1}, seed)
    with monkeypatch.context() as patched:
        dies(patched)
        with pytest.raises(SystemExit):
            Checkpoint(tmp_path, made_by).save(state(7), {"seed": 7})
    found, notes = restored(checkpoint)
    assert_same(found, state(saves - 1))
    assert notes == {"seed": saves - 1}
    saved(tmp_path, made_by, 8)
    assert_same(restored(Checkpoint(tmp_path, made_by))[0], state(8))


def test_states_that_are_offered_too_soon_are_left_out(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint, found = Checkpoint(tmp_path, {}, seconds_between_saves=60), []
    for seed, later in enumerate((59.0, 60.5, 119.0, 121.0)):
        now[0] = 100.0 + later
        checkpoint.offer(state(seed), {"seed": seed})
        restored_now = restored(checkpoint)
        found.append(None if restored_now is None else restored_now[1]["seed"])
    assert found == [None, 1, 1, 3]
    checkpoint.save(state(4), {"seed": 4})
    assert restored(checkpoint)[1] == {"seed": 4}


def test_a_state_may_depend_on_more_than_its_folder_was_made_for(tmp_path):
    saved(tmp_path, {"a": 1}, 5)
    narrower = Checkpoint(tmp_path, {"a": 1}).that_depends_on(epochs=2)
    assert restored(narrower) is None
    narrower.save(state(6), {"seed": 6})
    assert restored(Checkpoint(tmp_path, {"a": 1}).that_depends_on(epochs=2))[1] == {"seed": 6}
    for made_by, epochs in (({"a": 1}, 3), ({"a": 2}, 2)):
        assert restored(Checkpoint(tmp_path, made_by).that_depends_on(epochs=epochs)) is None


def test_a_full_disk_costs_a_state_and_not_the_work(tmp_path, monkeypatch, capsys):
    import orbax.checkpoint

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    checkpoint = saved(tmp_path, {}, 5)
    with monkeypatch.context() as patched:
        patched.setattr(orbax.checkpoint.StandardCheckpointer, "save", full)
        for seed in (6, 7):
            checkpoint.save(state(seed), {"seed": seed})
    told = f"no state could be saved in {tmp_path} (No space left on device); the work goes on"
    assert capsys.readouterr().err == f"cimm: {told}\n", "it is said once"
    assert restored(checkpoint)[1] == {"seed": 5}


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
