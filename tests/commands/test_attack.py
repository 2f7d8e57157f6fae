"""`cimm attack`: end to end, on runs of other commands, interrupted, and given nonsense."""

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from sample_records import sweep_record

from cimm_jax import attacks, losses
from cimm_jax.commands import attack as attack_command
from cimm_jax.commands import cli
from cimm_jax.runs.attacking import _swept_by_task
from cimm_jax.runs.codec import encode
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord
from cimm_jax.runs.run_folder import read_record_of
from cimm_jax.tasks import SplitPair, Task, TaskPair

pytestmark = pytest.mark.usefixtures("standard_promotion")

SMALL = ["--rows", "40", "--attack-steps", "50", "--rates", "3", "--seeds", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of `cimm immunize` on digits."""
    folder = tmp_path_factory.mktemp("runs") / "closed_form"
    assert cli.main(["immunize", "--method", "pencil", "--resamples", "20", "--out", str(folder)]) == 0
    return folder


def test_attack_writes_and_prints_who_broke_what_and_the_price(tmp_path, capsys):
    arguments = ["attack", "--methods", "pencil", "pencil_no_slower", "--attackers", "line_search", "sgd", "newton"]
    assert cli.main([*arguments, *SMALL, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "undefended",
        "pencil_no_slower",
        "newton (1)",
        "The price to other tasks",
        "benign",
        "tamper-proof",
    ):
        assert expected in printed
    record = read_record_of(tmp_path, AttackRecord)
    assert list(record.tasks) == ["harmful", "primary", "benign"]
    assert record.rows["harmful"] == {"train": 80, "heldout": 80}
    harmful = record.tasks["harmful"]
    assert list(harmful) == list(record.extractors) == ["undefended", "pencil", "pencil_no_slower"]
    assert harmful["pencil"]["newton"].breaks
    assert harmful["pencil"]["newton"].steps[0] == 1, "an adaptive attacker who wins in one step: the table says 1"
    ends = {name: outcomes["line_search"].left.estimate for name, outcomes in harmful.items()}
    assert ends["pencil_no_slower"] > ends["undefended"]
    sgd = harmful["undefended"]["sgd"].left
    assert sgd.low < sgd.estimate < sgd.high, "two seeds of minibatches differ"
    assert record.extractors["undefended"].measures is None
    pencil = record.extractors["pencil"]
    assert pencil.kind == "map"
    assert pencil.measures.parts["train"].ratios["PseudoInverse"].rir > 1
    assert all(part.excess is None for part in pencil.measures.parts.values()), "long curves are left out"
    assert len(record.budget.rates["sgd"]) == 3
    assert record.budget.rates["newton"] == ()
    assert set(record.manifest.data_sha256) >= {"train.primary.x", "heldout.harmful.y"}
    assert (tmp_path / "attack.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"config.toml", "results.json", "attack.png"}


def test_runs_of_immunize_are_attacked_on_their_own_data(run, tmp_path, capsys):
    arguments = ["attack", str(run), "--attackers", "line_search", "undo the map + line_search", "--attack-steps", "50"]
    assert cli.main([*arguments, "--json", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "results.json").read_text())
    record, immunized = read_record_of(tmp_path, AttackRecord), read_record_of(run, ImmunizeRecord)
    harmful = record.tasks["harmful"]
    assert list(harmful) == ["undefended", "closed_form"]
    # The attackers' own line search and the exact recurrences of `cimm immunize` agree.
    left = immunized.measures.parts["train"].excess.harmful.immunized[50]
    assert harmful["closed_form"]["line_search"].left.estimate == pytest.approx(left, rel=1e-6)
    undone = harmful["closed_form"]["undo the map + line_search"].left.estimate
    assert undone == pytest.approx(harmful["undefended"]["line_search"].left.estimate, rel=1e-3)
    assert len(record.tasks) == 3
    assert record.extractors["closed_form"].measures == immunized.measures.without_curves(), "not measured again"
    checksum = record.manifest.data_sha256["train.harmful.x"]
    assert checksum == immunized.manifest.data_sha256["train.harmful.x"]

    assert cli.main([*arguments, "--harmful-only", "--out", str(tmp_path / "alone")]) == 0
    alone = read_record_of(tmp_path / "alone", AttackRecord)
    assert alone.tasks.keys() == alone.rows.keys() == {"harmful"}
    for extractor, outcomes in harmful.items():
        for name, outcome in outcomes.items():
            assert alone.tasks["harmful"][extractor][name].left == outcome.left
    assert "The price to the primary and benign task." in capsys.readouterr().out


@pytest.mark.slow
def test_the_logistic_loss_takes_the_attackers_that_can_minimise_it(run, tmp_path):
    arguments = ["attack", str(run), "--loss", "logistic", "--attackers", "lbfgs", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--attack-steps", "20", "--seeds", "1"]) == 0
    harmful = read_record_of(tmp_path, AttackRecord).tasks["harmful"]
    assert harmful["undefended"]["lbfgs"].accuracy.estimate > 0.8


def test_every_standard_attacker_of_other_losses_exists():
    for loss in (losses.squared, losses.logistic, losses.softmax):
        assert attacks.standard_operators(attacks.standard_names(loss), steps=5, loss=loss)


def stop_after(count, monkeypatch):
    """Interrupts when so many attackers of a task are finished; returns the names of those that have run by then."""
    sweep, ran = attacks.sweep, []

    def stopped(operators, targets, *, progress=None, finished=None, **settings):
        def stop(done):
            progress(done)
            if done == count:
                raise KeyboardInterrupt

        def told(operator, trace):
            ran.append(operator.name)
            finished(operator, trace)

        return sweep(operators, targets, progress=progress and stop, finished=finished and told, **settings)

    monkeypatch.setattr(attacks, "sweep", stopped)
    return ran


def test_an_interrupted_attack_reports_what_it_finished_and_the_same_command_runs_the_others(
    run, tmp_path, capsys, monkeypatch
):
    arguments = ["attack", str(run), "--attackers", "line_search", "sgd", "adam", "--attack-steps", "50"]
    assert cli.main([*arguments, "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "out"
    arguments += ["--out", str(out)]
    for finished, others in ((["line_search"], "sgd and adam"), (["line_search", "sgd"], "adam")):
        capsys.readouterr()
        with monkeypatch.context() as patched:
            ran = stop_after(len(finished), patched)
            assert cli.main(arguments) == 130
        assert ran == finished[-1:], "those that were finished are not run again"
        captured = capsys.readouterr()
        told = f"{len(finished)} of 3 attackers were finished on the harmful task, see {out / 'results.json'}"
        assert captured.err.splitlines()[-1] == f"cimm: interrupted; {told}; the same command runs the others"
        assert "line_search" in captured.out
        assert f"The run was interrupted before {others} had finished" in captured.out
        record = read_record_of(out, AttackRecord)
        assert record.budget.attackers == ("line_search", "sgd", "adam")
        assert record.budget.finished == tuple(finished)
        assert list(record.tasks) == ["harmful"]
    ran = stop_after(9, monkeypatch)
    assert cli.main(arguments) == 0
    assert ran == ["adam", *["line_search", "sgd", "adam"] * 2]
    assert not (out / "attackers").exists()
    assert without_paths(out) == without_paths(tmp_path / "whole")


def without_paths(folder):
    record = read_record_of(folder, AttackRecord)
    settings = {**record.manifest.settings, "out": None}
    return encode(replace(record, manifest=replace(record.manifest, settings=settings)))


@pytest.mark.slow
def test_what_other_settings_or_a_damaged_file_hold_is_run_again(run, tmp_path, capsys, monkeypatch):
    arguments = ["attack", str(run), "--harmful-only", "--attackers", "line_search", "sgd", "--attack-steps"]
    with monkeypatch.context() as patched:
        stop_after(1, patched)
        assert cli.main([*arguments, "50", "--out", str(tmp_path)]) == 130
    (kept,) = (tmp_path / "attackers").iterdir()
    for more in (["51"], ["50", "--seeds", "3"], ["50", "--seed", "1"]):
        with monkeypatch.context() as patched:
            ran = stop_after(2, patched)
            assert cli.main([*arguments, *more, "--out", str(tmp_path)]) == 130
        assert ran == ["line_search", "sgd"]
        capsys.readouterr()
    kept.write_bytes(kept.read_bytes()[:200])
    ran = stop_after(3, monkeypatch)
    assert cli.main([*arguments, "50", "--out", str(tmp_path)]) == 0
    assert ran == ["line_search", "sgd"]
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("cimm"))
    assert line.startswith("cimm: line_search is run again (attackers: ")


@pytest.mark.parametrize("attackers", [["line_search"], ["line_search", "gd"]])
def test_ctrl_c_at_the_last_attacker_of_a_task_is_not_swallowed(run, tmp_path, capsys, monkeypatch, attackers):
    stop_after(len(attackers), monkeypatch)
    arguments = ["attack", str(run), "--attackers", *attackers, "--attack-steps", "5", "--out", str(tmp_path)]
    assert cli.main(arguments) == 130
    assert list(read_record_of(tmp_path, AttackRecord).tasks) == ["harmful"]
    told = f"{len(attackers)} of {len(attackers)} attackers were finished on the harmful task"
    assert told in capsys.readouterr().err


def test_an_interruption_before_anything_was_finished_writes_nothing(run, tmp_path, capsys, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(attacks, "sweep", stopped)
    assert cli.main(["attack", str(run), "--attackers", "line_search", "--out", str(tmp_path)]) == 130
    assert "cimm: interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_of_a_later_task_keeps_what_is_finished():
    found: Any = {"gd": 1, "adam": 2}

    def interrupted(progress):
        raise KeyboardInterrupt

    def cut_off(progress):
        return {"gd": 1}, True

    def whole(progress):
        return found, False

    def late(progress):
        pytest.fail("begun after the interruption")

    cut = {"gd": 1}
    for second, kept, told in (
        (interrupted, {"harmful": found}, "2 of 2 attackers were finished on the harmful task"),
        (cut_off, {"harmful": found, "primary": cut}, "1 of 2 attackers were finished on the primary task"),
    ):
        tasks: Any = {"harmful": whole, "primary": second, "benign": late}
        assert _swept_by_task(tasks, 2) == (kept, told)
    assert _swept_by_task({"harmful": whole}, 2) == ({"harmful": found}, "")
    with pytest.raises(KeyboardInterrupt):
        _swept_by_task({"harmful": interrupted, "primary": late}, 2)


@pytest.fixture(scope="module")
def others(run, tmp_path_factory):
    """Folders that cannot be attacked, and two that cannot be attacked beside the run."""
    folder = tmp_path_factory.mktemp("others")
    good = json.loads((run / "results.json").read_text())
    manifest, theta = good["manifest"], {"theta": np.eye(64)}
    _folder(folder / "DAMAGED", "{")
    _folder(folder / "OLD", {**good, "manifest": {**manifest, "schema": 1}})
    _folder(folder / "FOREIGN", {"a": 1})
    _folder(folder / "SWEEP", encode(sweep_record()))
    for name in ("other", "closed_form"):
        _folder(folder / "OTHER" / name, {**good, "source": {**good["source"], "harmful": "4v5"}}, theta)
    _folder(folder / "MISSHAPEN", good, {"theta": np.eye(63)})
    _folder(folder / "NOT_FINITE", good, {"theta": np.eye(64) * np.nan})
    _folder(folder / "NO_THETA", good)
    _folder(folder / "WRONG_THETA", good, {"other": np.eye(64)})
    return folder


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--attackers", "nonsense"], "adam, adamax"),
        (["--attackers", "polish + adam"], "whiten"),
        (["--attack-rates", "0"], "rates"),
        (["--attack-rates", "-1", "1"], "rates"),
        (["--rates", "0"], "rates"),
        (["--attack-steps", "0"], "steps"),
        (["--immunization-steps", "0"], "--immunization-steps"),
        (["--batch-size", "0"], "--batch-size"),
        (["--seeds", "0"], "seeds"),
        (["--schedules", "sawtooth"], "cosine"),
        (["--methods", "nonsense"], "pencil_signal"),
        (["--methods", "pencil", "pencil"], "methods"),
        (["--benign", "0v5"], "benign"),
        (["--loss", "softmax"], "use --loss logistic"),
        (["--rows", "100000"], "rows"),
        (["--data", "house_prices", "--rows", "5"], "rows"),
        (
            ["--cache", "folder"],
            "cache: is a setting of runs of own features or runs of a network, not of methods made now",
        ),
        (
            ["RUN", "--primary", "4v5"],
            "primary: is a setting of methods made now or own features without a run or runs of own features or runs of a "
            "network, not of runs of a data set",
        ),
        (["RUN", "--budget", "5"], "budget"),
        (["RUN", "--rows", "0"], "rows: is a setting of methods made now"),
        (["RUN", "--cache", "folder"], "cache: is a setting of runs of own features or runs of a network"),
        (["RUN", "--hessian", "data"], "hessian"),
        (["MISSING"], "results.json"),
        (["DAMAGED"], "damaged"),
        (["OLD"], "layout"),
        (["FOREIGN"], "not written by cimm"),
        (["SWEEP"], "cimm sweep"),
        (["RUN", "OTHER/other"], "harmful"),
        (["RUN", "OTHER/closed_form"], "two folders have the same name"),
        (["MISSHAPEN"], "theta"),
        (["NOT_FINITE"], "finite"),
        (["NO_THETA"], "theta.safetensors"),
        (["WRONG_THETA"], "theta.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, others, tmp_path, capsys, arguments, named):
    placed = [str(run) if a == "RUN" else str(others / a) if a.split("/")[0].isupper() else a for a in arguments]
    assert cli.main(["attack", *placed, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out/*")), "nothing half-written"


def test_losses_of_classes_refuse_house_prices(tmp_path, capsys, monkeypatch):
    task = Task(np.eye(3), np.array([0.1, 0.2, 0.3]))
    pair = SplitPair(*[TaskPair(task, task)] * 2)
    monkeypatch.setattr("cimm_jax.runs.subject.load_pair", lambda *a, **k: pair)
    monkeypatch.setattr("cimm_jax.runs.subject.load_benign", lambda *a, **k: None)
    assert cli.main(["attack", "--data", "house_prices", "--loss", "logistic", "--out", str(tmp_path / "out")]) == 2
    assert "loss: the harmful task has no classes" in capsys.readouterr().err


def test_a_run_on_files_in_another_place_is_attacked_there(run, tmp_path, monkeypatch):
    opened = []

    def stop(source, cache):
        opened.append(source)
        raise KeyboardInterrupt

    monkeypatch.setattr(attack_command, "open_subject", stop)
    more = ["--data-dir", str(tmp_path), "--benign", "6v7"]
    assert cli.main(["attack", str(run), *more, "--out", str(tmp_path / "out")]) == 130
    source = read_record_of(run, ImmunizeRecord).source
    assert opened == [replace(source, data_dir=tmp_path, benign="6v7")]


def test_a_copied_folder_under_another_name_is_another_extractor(run, tmp_path):
    shutil.copytree(run, tmp_path / "again")
    out = tmp_path / "out"
    arguments = ["attack", str(run), str(tmp_path / "again"), "--attackers", "line_search", "--attack-steps", "50"]
    assert cli.main([*arguments, "--harmful-only", "--out", str(out)]) == 0
    record = read_record_of(out, AttackRecord)
    assert list(record.extractors) == ["undefended", "closed_form", "again"]
    ends = [record.tasks["harmful"][name]["line_search"].left.estimate for name in ("closed_form", "again")]
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)


def _folder(path, results, tensors=None):
    path.mkdir(parents=True)
    (path / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    if tensors is not None:
        save_file(tensors, path / "theta.safetensors")
