"""One end-to-end run of diagnose, immunize and sweep, their files, an interruption, and what bad input prints."""

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from processes import other_process, started
from safetensors.numpy import load_file

from cimm_jax import interruption
from cimm_jax.commands import cli
from cimm_jax.commands import sweep as sweep_command
from cimm_jax.errors import printable
from cimm_jax.methods import BY_NAME
from cimm_jax.methods._sweep import abstract_progress
from cimm_jax.resuming import Checkpoint
from cimm_jax.runs.codec import decode
from cimm_jax.runs.records import SCHEMA, DiagnoseRecord, ImmunizeRecord, SweepRecord
from cimm_jax.runs.run_folder import read_record_of
from cimm_jax.views.registry import part_of

pytestmark = pytest.mark.usefixtures("standard_promotion")

IMMUNIZE = ["immunize", "--steps", "20", "--resamples", "20"]
DIAGNOSE = ["diagnose", "--budgets", "1", "keep"]
SWEEP = ["sweep", "--steps", "6", "--rows", "12", "--heldout-rows", "12", "--pairs-at-once", "45"]
TWO = ["--methods", "ill_only", "pencil"]
FOLDER = TemporaryDirectory()


@cache
def run(*arguments: str) -> tuple[Path, str]:
    """The folder of a command that was run once, and what it printed."""
    folder = Path(FOLDER.name) / str(hash(arguments))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.main([*arguments, "--out", str(folder)]) == 0
    return folder, printed.getvalue()


def check_printed(folder: Path, printed: str) -> None:
    """What was printed is the view of the record in the folder, and says where everything is."""
    record = read_record_of(folder, object)
    part = part_of(record, str(folder))
    for text in (part.title, part.headline):
        assert printable(text) in printed
    for section in part.sections:
        assert (f"\n{section.title}\n" in printed) is not section.folded, section.title
    command = record.manifest.command
    assert f"Picture: {folder / command}.png" in printed
    assert f"Figures: {folder / 'results.json'}" in printed
    assert (folder / f"{command}.png").read_bytes().startswith(b"\x89PNG")


def test_immunize_prints_the_verdict_and_writes_everything():
    folder, printed = run(*IMMUNIZE)
    check_printed(folder, printed)
    for expected in ("PseudoInverse", "ReleasedCode", "Definition 3.1", "(a)", "(b)", "(c)", "held-out"):
        assert expected in printed
    record = read_record_of(folder, ImmunizeRecord)
    assert record.manifest.settings["steps"] == 20
    assert record.manifest.command_line == "cimm immunize --steps 20 --resamples 20"
    assert record.measures.parts["train"].ratios["PseudoInverse"].rir > 1
    assert record.history.loss.shape == record.history.kappa_primary.shape == (20,)
    assert (record.training, record.kept, record.network) == (None, None, None)
    assert load_file(folder / "theta.safetensors")["theta"].shape == (64, 64)
    assert f"To be published: {folder / 'theta.safetensors'}" in printed
    assert {path.name for path in folder.iterdir()} == {
        "config.toml",
        "results.json",
        "immunize.png",
        "theta.safetensors",
    }


@pytest.mark.parametrize("arguments", [IMMUNIZE, DIAGNOSE], ids=lambda arguments: arguments[0])
def test_json_is_the_file_and_nothing_else(arguments):
    told, (folder, printed) = read_record_of(run(*arguments)[0], object), run(*arguments, "--json")
    content = json.loads(printed)
    assert content == json.loads((folder / "results.json").read_text())
    assert (content["manifest"]["schema"], content["manifest"]["command"]) == (SCHEMA, arguments[0])
    record = decode(type(told), content)
    settings = {**record.manifest.settings, "json": False, "out": told.manifest.settings["out"]}
    assert replace(record, manifest=replace(record.manifest, settings=settings)) == told, "the same run again"


def test_same_seed_same_figures_other_seed_other_figures(tmp_path):
    ratios = []
    for number, seed in enumerate(("1", "1", "2")):
        out = tmp_path / str(number)
        assert cli.main([*IMMUNIZE, "--batch-size", "16", "--seed", seed, "--out", str(out)]) == 0
        record = read_record_of(out, ImmunizeRecord)
        ratios.append(float(record.measures.parts["train"].ratios["PseudoInverse"].rir))
    assert ratios[0] == ratios[1] != ratios[2]


def test_immunize_with_the_closed_form_prints_limit_intervals_and_what_an_attacker_keeps():
    arguments = [
        "--method",
        "pencil",
        "--objective",
        "signal",
        "--primary-no-slower-at",
        "10",
        "100",
        "--resamples",
        "20",
    ]
    folder, printed = run("immunize", *arguments)
    check_printed(folder, printed)
    for expected in ("share of the limit", "95 % of resamples", "Excess loss left", "after 1000 steps"):
        assert expected in printed
    record = read_record_of(folder, ImmunizeRecord)
    train, heldout = record.measures.parts["train"], record.measures.parts["heldout"]
    assert train.excess.harmful.immunized[1000] > 10 * train.excess.harmful.undefended[1000]
    for steps in (10, 100):
        assert train.excess.primary.immunized[steps] <= train.excess.primary.undefended[steps]
    assert 0 < train.share.share <= 1
    assert not train.share.exceeded
    assert heldout.intervals.rir.low < heldout.intervals.rir.high
    assert record.history is None, "one step has no course"


def test_diagnose_prints_limit_budgets_and_verdict_and_writes_a_picture():
    folder, printed = run(*DIAGNOSE)
    check_printed(folder, printed)
    for expected in ("log of the largest RIR", "alignment", "keep", "slow-down", "The pair is immunizable."):
        assert expected in printed
    record = read_record_of(folder, DiagnoseRecord)
    assert record.diagnosis.verdict == "immunizable"
    assert [row.budget for row in record.diagnosis.budgets] == [1.0, "keep"]
    front = record.diagnosis.protection.front
    assert len(front.slow_down) == len(front.harmful_left)
    assert record.names.primary == "digit 0 against digit 1"
    assert set(record.manifest.data_sha256) >= {"train.primary.x", "heldout.harmful.y"}
    assert {path.name for path in folder.iterdir()} == {"config.toml", "results.json", "diagnose.png"}


@pytest.mark.parametrize("methods", [TWO, pytest.param([], marks=pytest.mark.slow)], ids=["two methods", "all methods"])
def test_sweep_covers_ninety_pairs_and_every_method(methods):
    folder, printed = run(*SWEEP, *methods)
    check_printed(folder, printed)
    assert "In plain words" in printed
    record = read_record_of(folder, SweepRecord)
    assert len(record.pairs) == 90
    assert tuple(record.methods) == tuple(methods[1:] or BY_NAME)
    assert record.rows == {"train": 12, "heldout": 12}
    for name, measured in record.methods.items():
        assert name in printed
        for judged in (measured.train, measured.heldout):
            assert judged.ratio.rir.shape == (90, 1)
            assert np.isfinite(judged.ratio.rir).all()
    assert {path.name for path in folder.iterdir()} == {"config.toml", "results.json", "sweep.png"}


def test_an_interrupted_sweep_continues_and_ends_as_if_it_had_not_been(tmp_path, capsys, monkeypatch):
    """A signal saves at once, however short ago the last save was."""
    whole = read_record_of(run(*SWEEP, *TWO)[0], SweepRecord)
    offer, arguments = Checkpoint.offer, [*SWEEP, *TWO, "--out", str(tmp_path)]

    with monkeypatch.context() as stopped:

        def offer_after_a_signal(self, progress, notes):
            come = progress.steps_made(6) >= 45 * 6 + 45 * 4
            stopped.setattr(interruption, "_state", interruption._State(waits=come))
            offer(self, progress, notes)

        stopped.setattr(Checkpoint, "offer", offer_after_a_signal)
        assert cli.main(arguments) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"cimm: interrupted; {cli.RESUMED}"
    assert not (tmp_path / "results.json").exists()

    begun = []
    sweep = sweep_command.sweep
    monkeypatch.setattr(
        sweep_command, "sweep", lambda *a, **k: begun.append(k["progress"].steps_made(6)) or sweep(*a, **k)
    )
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "results.json").read_text())
    assert begun == [45 * 6 + 45 * 4]
    continued = read_record_of(tmp_path, SweepRecord)
    for name in TWO[1:]:
        jax.tree.map(np.testing.assert_array_equal, continued.methods[name], whole.methods[name])
    assert not (tmp_path / "checkpoint").exists()


def test_a_sweep_of_other_settings_does_not_go_on_with_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_command, "SECONDS_BETWEEN_SAVES", 0.0)
    begun = []

    def interrupted(methods, pairs, *, keys, progress, checkpoint, **settings):
        begun.append(progress is not None)
        if len(begun) == 1:
            blank = abstract_progress(methods, pairs, keys, at_once=90)
            checkpoint(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), blank))
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep_command, "sweep", interrupted)
    for more in ([], [], ["--json"], ["--pairs-at-once", "7"], ["--seed", "1"], ["--kind", "versus"]):
        assert cli.main([*SWEEP, "--methods", "ill_only", *more, "--out", str(tmp_path)]) == 130
    assert begun == [False, True, True, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["immunize", "--data", "nonsense"], "data"),
        (["immunize", "--method", "nonsense"], "method"),
        (["immunize", "--primary", "11"], "primary"),
        (["immunize", "--steps", "0"], "steps"),
        (["immunize", "--batch-size", "100000"], "--batch-size"),
        (["immunize", "--lambda-harmful", "-1"], "--lambda-harmful"),
        (["immunize", "--lambda-primary", "nan"], "--lambda-primary"),
        (["immunize", "--method", "imma", "--lambda-primary", "1"], "--lambda-primary"),
        (["immunize", "--step-length", "0"], "--step-length"),
        (
            ["immunize", "--learning-rate", "0.1"],
            "--learning-rate: is a setting of an extractor behind own features (--extractor) or trained blocks (--train-from)",
        ),
        (["immunize", "--train-from", "layer3.0"], "--train-from: is a setting of trained blocks"),
        (["immunize", "--views", "0"], "views: is a setting of maps of a network (--model) or trained blocks"),
        (["immunize", "--data", "mnist", "--data-dir", "EMPTY"], "train-images-idx3-ubyte"),
        (["immunize", "--data", "house_prices", "--data-dir", "EMPTY"], "D1.csv"),
        (["immunize", "--out", "FILE/below"], "--out"),
        (["immunize", "--method", "pencil", "--budget", "0.5"], "budget"),
        (["immunize", "--method", "pencil", "--budget", "much"], "budget"),
        (["immunize", "--method", "pencil", "--ridge", "-1"], "ridge"),
        (["immunize", "--method", "pencil", "--horizon", "10"], "--objective signal"),
        (["immunize", "--method", "pencil", "--objective", "signal", "--horizon", "0"], "horizon"),
        (["immunize", "--method", "pencil", "--lambda-primary", "1"], "--lambda-primary"),
        (["immunize", "--method", "algorithm1", "--budget", "5"], "budget"),
        (["immunize", "--resamples", "3", "--steps", "1"], "resamples"),
        (["sweep", "--methods", "imma", "--ridge", "1"], "ridge"),
        (["diagnose", "--budgets", "0"], "budget"),
        (["diagnose", "--budgets"], "budgets"),
        (["diagnose", "--top-k", "0"], "--top-k"),
        (["diagnose", "--data", "nonsense"], "data"),
        (["diagnose", "--rtol", "1"], "rtol"),
        (["diagnose", "--primary-no-slower-at", "0"], "--primary-no-slower-at"),
        (["diagnose", "--out", "FILE/below"], "--out"),
        (["sweep", "--kind", "nonsense"], "kind"),
        (["sweep", "--data", "house_prices"], "digits"),
        (["sweep", "--seeds", "0"], "seeds"),
        (["sweep", "--steps", "0"], "steps"),
        (["sweep", "--batch-size", "0"], "--batch-size"),
        (["sweep", "--pairs-at-once", "0"], "--pairs-at-once"),
        (["sweep", "--rows", "100000"], "rows"),
        (["sweep", "--methods", "nonsense"], "method"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, capsys, arguments, named):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": str(tmp_path / "empty"), "FILE/below": str(tmp_path / "file" / "below")}
    arguments = [places.get(argument, argument) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert captured.err.startswith("cimm: ")
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert not list(tmp_path.glob("out/*")), "nothing half-written"


@pytest.mark.parametrize(
    "arguments", [["diagnose"], ["immunize", "--method", "pencil"], [*SWEEP, "--methods", "pencil"], ["report", "RUN"]]
)
def test_a_folder_that_another_process_works_in_is_refused_in_one_line(tmp_path, capsys, arguments):
    arguments = [str(run(*DIAGNOSE)[0]) if argument == "RUN" else argument for argument in arguments]
    capsys.readouterr()
    with other_process("only_one_in", tmp_path) as first:
        before = sorted(tmp_path.iterdir())
        assert cli.main([*arguments, "--out", str(tmp_path)]) == 2
        assert sorted(tmp_path.iterdir()) == before
    captured = capsys.readouterr()
    assert captured.err.startswith(f"cimm: --out: {tmp_path} is in use by process {first.pid} on ")
    assert (len(captured.err.splitlines()), captured.out) == (1, "")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "standard output: cannot be used (No space left on device)"),
        (PermissionError(13, "Permission denied", "/there"), "/there: cannot be used (Permission denied)"),
    ],
)
def test_what_the_system_refuses_is_one_line_and_status_2(capsys, monkeypatch, error, told):
    def refused(settings):
        raise error

    monkeypatch.setattr("cimm_jax.commands.diagnose.run_diagnose", refused)
    assert cli.main(["diagnose"]) == 2
    assert capsys.readouterr().err == f"cimm: {told}\n"


@pytest.mark.parametrize(
    ("came", "raised", "status"), [(None, KeyboardInterrupt, 130), (15, KeyboardInterrupt, 143), (2, RuntimeError, 130)]
)
def test_an_interruption_is_one_line_whatever_a_library_makes_of_it(capsys, monkeypatch, came, raised, status):
    def interrupted(settings):
        raise raised

    monkeypatch.setattr("cimm_jax.commands.diagnose.run_diagnose", interrupted)
    monkeypatch.setattr(interruption, "_state", interruption._State(received=came))
    assert cli.main(["diagnose"]) == status
    word = "terminated" if status == 143 else "interrupted"
    assert capsys.readouterr().err == f"cimm: {word}; {cli.RESUMED}\n"


def test_an_error_that_no_signal_made_is_shown_whole(monkeypatch):
    def broken(settings):
        raise RuntimeError("a bug")

    monkeypatch.setattr("cimm_jax.commands.diagnose.run_diagnose", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["diagnose"])


def test_a_reader_who_has_heard_enough_is_no_error(tmp_path):
    talks = (
        "import sys; from cimm_jax.commands import cli, report;"
        "report.run_report = lambda settings: [print(line) for line in range(100_000)]; sys.exit(cli.main(['report']))"
    )
    with started([sys.executable, "-c", talks]) as process:
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (128 + 13, "")


def test_help_needs_no_data_and_lists_the_commands():
    done = subprocess.run([sys.executable, "-m", "cimm_jax", "--help"], capture_output=True, text=True, check=True)
    for command in ("attack", "diagnose", "immunize", "report", "reproduce", "sweep"):
        assert command in done.stdout
