"""Several harmful tasks blocked by one map: made, told task by task, attacked one by one, and refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from commands.network_runs import immunize_map, printed

from cimm_jax.closed_form.erasure import erase_labels
from cimm_jax.commands import cli
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.places import named_only
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord
from cimm_jax.runs.run_folder import read_record_of
from cimm_jax.runs.subject import open_subject

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

ROWS, FEATURES = 40, 6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Files of a primary task and of two harmful ones, and a run that erases both."""
    folder = tmp_path_factory.mktemp("several")
    rng = np.random.default_rng(0)
    for name, classes in (("kept", 2), ("a", 3), ("b", 2)):
        labels = np.arange(ROWS) % classes
        x = rng.normal(size=(ROWS, FEATURES)) + 3 * rng.normal(size=(classes, FEATURES))[labels]
        np.savez(folder / f"{name}.npz", x=x, y=labels)
    (folder / "printed.txt").write_text(printed(cli.main, ["immunize", *places(folder), "--out", str(folder / "run")]))
    return folder


def places(folder: Path, *harmful: str) -> list[str]:
    blocked = [word for name in harmful or ("a", "b") for word in ("--harmful", str(folder / f"{name}.npz"))]
    return [
        "--primary",
        str(folder / "kept.npz"),
        *blocked,
        "--method",
        "erase",
        "--keep",
        "features",
        "--resamples",
        "20",
    ]


def test_the_map_erases_every_task_and_the_record_tells_each_and_what_it_costs(run):
    record = read_record_of(run / "run", ImmunizeRecord)
    assert record.names.harmful == "a.npz + b.npz"
    assert record.source.harmful_too == (run / "b.npz",)
    subject = open_subject(record.source)
    tasks = [one.pairs()["train"] for one in subject.each]
    expected = erase_labels(tasks[0].primary, [pair.harmful for pair in tasks], keep="features")
    np.testing.assert_allclose(MapDefence.read("run", run / "run").theta, expected.theta, atol=1e-8)
    assert int(expected.erased) == 3
    several = record.several
    assert several is not None
    assert (several.part, [one.name for one in several.each]) == ("heldout", ["a.npz", "b.npz"])
    for one in several.each:
        assert one.explained.linear.undefended > one.explained.linear.immunized + 0.3
        assert one.alone.explained.immunized >= several.paid.explained.immunized - 0.05
        assert one.alone.accuracy is None, "there is no network"
    shown = (run / "printed.txt").read_text()
    assert "Each harmful task" in shown
    assert "all of them" in shown
    assert {"train.harmful.x", "train.harmful 2.x"} <= record.manifest.data_sha256.keys()


def test_each_task_is_attacked_by_itself_and_one_that_was_not_blocked_is_refused(run, tmp_path, capsys):
    attack = ["attack", str(run / "run"), "--attackers", "line_search", "--attack-steps", "5", "--out", str(tmp_path)]
    assert cli.main([*attack, "--harmful", str(run / "b.npz")]) == 0
    record = read_record_of(tmp_path, AttackRecord)
    assert (record.names.harmful, record.rows["harmful"]["train"]) == ("b.npz", 32)
    capsys.readouterr()
    assert cli.main(attack) == 2
    assert "--harmful: the run blocks several, a.npz, b.npz" in capsys.readouterr().err
    assert cli.main([*attack, "--harmful", str(run / "kept.npz")]) == 2
    assert "was made from other data" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_is_told_task_by_task_too(inputs, tmp_path, capsys):
    flipped = tmp_path / "other"
    flipped.mkdir()
    for part in ("train", "test"):
        (flipped / part).mkdir()
        for label in range(3):
            (flipped / part / f"class{label}").symlink_to(inputs / "harmful" / part / f"class{(label + 1) % 3}")
    two = ["--harmful", str(flipped), "--rank", "2"]
    assert immunize_map(inputs, tmp_path / "run", *two, method="erase") == 0
    record = read_record_of(tmp_path / "run", ImmunizeRecord)
    assert record.several is not None
    assert record.network is not None
    assert {name: of["train"].classes for name, of in record.network.harmful_too.items()} == {"harmful 2": 3}
    assert 0 <= record.several.paid.accuracy <= 1
    assert all(0 <= one.alone.accuracy <= 1 for one in record.several.each)
    assert immunize_map(inputs, tmp_path / "run", *two[:-1], "3", method="erase") == 0
    record = read_record_of(tmp_path / "run", ImmunizeRecord)
    assert [one.alone for one in record.several.each] == [None, None], "neither has three directions"
    assert named_only(record.source).harmful_too == ("other",)
    capsys.readouterr()
    assert immunize_map(inputs, tmp_path / "run", "--harmful", str(flipped), "--rank", "5", method="erase") == 2
    assert "--rank: 5 is more than the 4 directions" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--harmful", "{a}"], "--harmful-too: {a} is given twice; name each harmful task once"),
        (["--harmful", "{copy}"], "--harmful-too: copy.npz has the same content as a.npz; name each task once"),
        (["--harmful", "2v3"], "--harmful-too: needs a file or folder of features"),
        (["--harmful-too", "{b}", "--train-from", "x"], "--harmful-too: is a setting of"),
    ],
)
def test_what_cannot_be_blocked_together_is_refused_in_one_line(run, capsys, more, message):
    (run / "copy.npz").write_bytes((run / "a.npz").read_bytes())
    names = {name: run / f"{name}.npz" for name in ("a", "b", "copy")}
    if "--train-from" in more:
        more = [*more, "--model", "small"]
    assert cli.main(["immunize", *places(run, "a"), *(word.format(**names) for word in more)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message.format(**names) in line


def test_data_sets_and_other_commands_take_one_harmful_task(run, capsys):
    assert cli.main(["immunize", "--harmful", "2v3", "--harmful", "4v5"]) == 2
    assert "--harmful-too: is a setting of own features" in capsys.readouterr().err
    assert cli.main(["diagnose", "--harmful", "2v3", "--harmful=4v5"]) == 2
    assert "--harmful: is given twice; only cimm immunize takes several" in capsys.readouterr().err
