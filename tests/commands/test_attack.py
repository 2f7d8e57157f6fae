"""`cimm attack`: end to end, on runs of other commands, interrupted, and given nonsense."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from cimm_jax import attacks, cli
from cimm_jax.commands.attack_shared import all_finished, swept_by_task

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
    for expected in ("undefended", "pencil_no_slower", "newton (1)", "the price", "benign", "tamper-proof"):
        assert expected in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["tasks"]) == {"harmful", "primary", "benign"}
    harmful = results["tasks"]["harmful"]
    assert list(harmful) == ["undefended", "pencil", "pencil_no_slower"]
    assert harmful["pencil"]["newton"]["breaks"]
    assert harmful["pencil"]["newton"]["steps"][0] == 1, "an adaptive attacker who wins in one step: the table says 1"
    assert (
        harmful["pencil_no_slower"]["line_search"]["left"]["mean"]
        > harmful["undefended"]["line_search"]["left"]["mean"]
    )
    sgd = harmful["undefended"]["sgd"]["left"]
    assert sgd["low"] < sgd["mean"] < sgd["high"], "two seeds of minibatches differ"
    assert results["extractors"]["pencil"]["train"]["ratios"]["PseudoInverse"]["rir"] > 1
    assert set(results["data_sha256"]) >= {"pair.train.primary.x", "benign.heldout.y"}
    assert (tmp_path / "attack.png").read_bytes().startswith(b"\x89PNG")


def test_runs_of_immunize_are_attacked_on_their_own_data(run, tmp_path, capsys):
    arguments = ["attack", str(run), "--attackers", "line_search", "undo the map + line_search", "--attack-steps", "50"]
    assert cli.main([*arguments, "--json", "--out", str(tmp_path)]) == 0
    results = json.loads(capsys.readouterr().out)
    immunized = json.loads((run / "results.json").read_text())
    harmful = results["tasks"]["harmful"]
    assert list(harmful) == ["undefended", "closed_form"]
    # The command's own line search and the exact recurrences of `cimm immunize` agree.
    left = immunized["excess_left"]["train"]["harmful immunized"][50]
    assert harmful["closed_form"]["line_search"]["left"]["mean"] == pytest.approx(left, rel=1e-6)
    undone = harmful["closed_form"]["undo the map + line_search"]["left"]["mean"]
    assert undone == pytest.approx(harmful["undefended"]["line_search"]["left"]["mean"], rel=1e-3)
    assert len(results["tasks"]) == 3
    assert cli.main([*arguments, "--json", "--harmful-only", "--out", str(tmp_path / "alone")]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["tasks"] == {"harmful": harmful}
    assert list(alone["rows"]) == ["harmful"]
    assert results["data_sha256"]["pair.train.harmful.x"] == immunized["data_sha256"]["train.harmful.x"]


@pytest.mark.slow
def test_the_logistic_loss_takes_the_attackers_that_can_minimise_it(run, tmp_path):
    arguments = ["attack", str(run), "--loss", "logistic", "--attackers", "lbfgs", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--attack-steps", "20", "--seeds", "1"]) == 0
    harmful = json.loads((tmp_path / "results.json").read_text())["tasks"]["harmful"]
    assert harmful["undefended"]["lbfgs"]["accuracy"]["mean"] > 0.8


def test_every_standard_attacker_of_other_losses_exists():
    from cimm_jax import losses

    for loss in (losses.squared, losses.logistic, losses.softmax):
        assert attacks.standard_operators(attacks.standard_names(loss), steps=5, loss=loss)


def test_interrupted_attack_keeps_and_reports_what_it_finished(tmp_path, capsys, monkeypatch):
    sweep = attacks.sweep

    def stopped(operators, targets, *, keys, progress):
        def stop(done):
            progress(done)
            raise KeyboardInterrupt

        return sweep(operators, targets, keys=keys, progress=lambda done: stop(done) if done == 1 else progress(done))

    monkeypatch.setattr(attacks, "sweep", stopped)
    arguments = ["attack", "--methods", "pencil", "--attackers", "line_search", "adam", *SMALL, "--out", str(tmp_path)]
    assert cli.main(arguments) == 130
    captured = capsys.readouterr()
    assert "1 of 2 attackers were finished on the harmful task" in captured.err
    assert "line_search" in captured.out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["budget"]["attackers"] == ["line_search", "adam"]
    assert results["budget"]["finished"] == ["line_search"]
    assert list(results["tasks"]) == ["harmful"]


def test_an_interruption_of_a_later_task_keeps_what_is_finished():
    operators: Any = ("gd", "adam")
    found: Any = {"gd": 1, "adam": 2}

    def interrupted(progress):
        raise KeyboardInterrupt

    def cut_off(progress):
        return {"gd": 1}

    def whole(progress):
        return found

    def late(progress):
        pytest.fail("begun after the interruption")

    for second, kept in ((interrupted, {"harmful": found}), (cut_off, {"harmful": found, "primary": {"gd": 1}})):
        tasks = {"harmful": whole, "primary": second, "benign": late}
        swept = swept_by_task(tasks, operators)
        assert swept == kept
        assert not all_finished(swept, tasks, operators)
    assert all_finished(swept_by_task({"harmful": whole}, operators), ["harmful"], operators)
    with pytest.raises(KeyboardInterrupt):
        swept_by_task({"harmful": interrupted, "primary": late}, operators)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--attackers", "nonsense"], "adam, adamax"),
        (["--attackers", "polish + adam"], "whiten"),
        (["--attack-rates", "0"], "rates"),
        (["--attack-rates", "-1", "1"], "rates"),
        (["--rates", "0"], "rates"),
        (["--attack-steps", "0"], "steps"),
        (["--immunization-steps", "0"], "immunization_steps"),
        (["--batch-size", "0"], "batch_size"),
        (["--seeds", "0"], "seeds"),
        (["--schedules", "sawtooth"], "cosine"),
        (["--methods", "nonsense"], "pencil_signal"),
        (["--methods", "pencil", "pencil"], "methods"),
        (["--benign", "0v5"], "benign"),
        (["--loss", "softmax"], "use --loss logistic"),
        (["--rows", "100000"], "rows"),
        (["--data", "house_prices", "--rows", "5"], "rows"),
        (["RUN", "--primary", "4v5"], "primary"),
        (["RUN", "--budget", "5"], "budget"),
        (["MISSING"], "results.json"),
        (["DAMAGED"], "damaged"),
        (["OLD"], "layout"),
        (["FOREIGN"], "not written by cimm"),
        (["SWEEP"], "cimm sweep"),
        (["RUN", "OTHER/closed_form"], "harmful"),
        (["MISSHAPEN"], "theta"),
        (["NOT_FINITE"], "finite"),
        (["NO_THETA"], "theta.safetensors"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, tmp_path, capsys, arguments, named):
    good = json.loads((run / "results.json").read_text())
    theta = {"theta": np.eye(64)}
    _folder(tmp_path / "DAMAGED", "{")
    _folder(tmp_path / "OLD", {**good, "schema": 1})
    _folder(tmp_path / "FOREIGN", {"a": 1})
    _folder(tmp_path / "SWEEP", {**good, "command": "sweep"})
    _folder(tmp_path / "OTHER/closed_form", {**good, "settings": {**good["settings"], "harmful": "4v5"}}, theta)
    _folder(tmp_path / "MISSHAPEN", good, {"theta": np.eye(63)})
    _folder(tmp_path / "NOT_FINITE", good, {"theta": np.eye(64) * np.nan})
    _folder(tmp_path / "NO_THETA", good)
    placed = [str(run) if a == "RUN" else str(tmp_path / a) if a.split("/")[0].isupper() else a for a in arguments]
    assert cli.main(["attack", *placed, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out/*")), "nothing half-written"


def test_losses_of_classes_refuse_house_prices(tmp_path, capsys, monkeypatch):
    from cimm_jax.commands import battlefield
    from cimm_jax.tasks import SplitPair, Task, TaskPair

    task = Task(np.eye(3), np.array([0.1, 0.2, 0.3]))
    pair = SplitPair(*[TaskPair(task, task)] * 2)
    monkeypatch.setattr(battlefield, "load_pair_and_benign", lambda *a, **k: (pair, None))
    assert cli.main(["attack", "--data", "house_prices", "--loss", "logistic", "--out", str(tmp_path / "out")]) == 2
    assert "loss: the harmful task has no classes" in capsys.readouterr().err


def _folder(path, results, tensors=None):
    path.mkdir(parents=True)
    (path / "results.json").write_text(results if isinstance(results, str) else json.dumps(results))
    if tensors is not None:
        save_file(tensors, path / "theta.safetensors")
