"""One end-to-end run of each command, its files, and what bad input prints."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from cimm_jax import InputError, cli
from cimm_jax.methods import HessianFrom

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_immunize_prints_the_verdict_and_writes_everything(tmp_path, capsys):
    assert cli.main(["immunize", "--steps", "20", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for expected in ("PseudoInverse", "ReleasedCode", "Definition 3.1", "(a)", "(b)", "(c)", "heldout"):
        assert expected in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["settings"]["steps"] == 20
    assert results["ratios"]["train"]["PseudoInverse"]["rir"] > 1
    assert len(results["history"]["loss"]) == 20
    assert load_file(tmp_path / "theta.safetensors")["theta"].shape == (64, 64)
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_immunize_json_is_the_file(tmp_path, capsys):
    assert cli.main(["immunize", "--steps", "20", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "results.json").read_text())


def test_same_seed_same_figures_other_seed_other_figures(tmp_path):
    ratios = []
    for number, seed in enumerate(("1", "1", "2")):
        out = tmp_path / str(number)
        assert cli.main(["immunize", "--steps", "20", "--batch-size", "16", "--seed", seed, "--out", str(out)]) == 0
        ratios.append(json.loads((out / "results.json").read_text())["ratios"]["train"]["PseudoInverse"]["rir"])
    assert ratios[0] == ratios[1] != ratios[2]


def test_sweep_covers_ninety_pairs_and_every_method(tmp_path, capsys):
    arguments = ["sweep", "--steps", "4", "--rows", "60", "--out", str(tmp_path)]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "In plain words" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["pairs"]) == 90
    assert set(results["methods"]) == {"algorithm1", "ill_only", "opt_kappa", "imma", "pencil"}
    for name, record in results["methods"].items():
        assert name in printed
        for part in ("train", "heldout"):
            rir = np.array(record[part]["rir"], float)
            assert rir.shape == (90, 1)
            assert np.isfinite(rir).all()
    for part in ("train", "heldout"):
        assert (tmp_path / f"log_rir_{part}.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "checkpoint").exists()


def test_immunize_with_the_closed_form_prints_limit_intervals_and_what_an_attacker_keeps(tmp_path, capsys):
    arguments = ["immunize", "--method", "pencil", "--objective", "signal", "--primary-no-slower-at", "10", "100"]
    assert cli.main([*arguments, "--resamples", "20", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for expected in ("share of the limit", "95% interval", "excess loss", "after 1000 steps"):
        assert expected in printed
    results = json.loads((tmp_path / "results.json").read_text())
    left = {name: curve[1000] for name, curve in results["excess_left"]["train"].items()}
    assert left["harmful immunized"] > 10 * left["harmful undefended"]
    for steps in (10, 100):
        curves = results["excess_left"]["train"]
        assert curves["primary immunized"][steps] <= curves["primary undefended"][steps]
    assert 0 < results["limit"]["train"]["share"] <= 1
    assert not results["limit"]["train"]["exceeded"]
    low, high = results["intervals"]["heldout"]["rir"]
    assert low < high
    assert (tmp_path / "convergence.png").read_bytes().startswith(b"\x89PNG")
    assert not (tmp_path / "history.png").exists(), "one step has no course"


def test_diagnose_prints_limit_budgets_and_verdict_and_writes_a_picture(tmp_path, capsys):
    assert cli.main(["diagnose", "--budgets", "1", "keep", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for expected in ("log of the largest RIR", "alignment", "keep", "slow-down", "Verdict: immunizable"):
        assert expected in printed
    diagnosis = json.loads((tmp_path / "results.json").read_text())["diagnosis"]
    assert diagnosis["verdict"] == "immunizable"
    assert [row["budget"] for row in diagnosis["budgets"]] == [1.0, "keep"]
    assert len(diagnosis["protection"]["front"]["slow_down"]) == len(diagnosis["protection"]["front"]["harmful_left"])
    assert (tmp_path / "diagnosis.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow  # the tables and the file are made as those of cimm immunize
def test_diagnose_json_is_the_file(tmp_path, capsys):
    assert cli.main(["diagnose", "--primary", "3", "--harmful", "5", "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "results.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "expected"), [([], {}), (["--hessian", "batch"], {"hessian": HessianFrom.BATCH})]
)
def test_sweep_tells_the_methods_whose_hessians_to_look_at(monkeypatch, arguments, expected):
    from cimm_jax.commands import sweep as command

    told = []

    def build(names, learning_rate, pencil, **others):
        told.append(others)
        raise InputError("enough")

    monkeypatch.setattr(command, "build_methods", build)
    assert cli.main(["sweep", *arguments]) == 2
    assert told == [expected]


def test_interrupted_sweep_continues_from_its_checkpoint(tmp_path, capsys, monkeypatch):
    from cimm_jax.commands import checkpoint as saved
    from cimm_jax.commands import sweep as command

    monkeypatch.setattr(saved, "SECONDS_BETWEEN_SAVES", 0.0)
    arguments = ["sweep", "--steps", "6", "--rows", "60", "--methods", "ill_only", "--json", "--out"]
    assert cli.main([*arguments, str(tmp_path / "whole")]) == 0
    whole = json.loads(capsys.readouterr().out)

    save = saved.Checkpoint.save

    def save_and_stop(self, progress, size):
        save(self, progress, size)
        if progress.steps_made(6) >= 60 * 6 + 30 * 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(saved.Checkpoint, "save", save_and_stop)
        assert cli.main([*arguments, str(tmp_path / "cut"), "--pairs-at-once", "60"]) == 130
    assert "continues" in capsys.readouterr().err
    assert not (tmp_path / "cut" / "results.json").exists()

    lengths = []
    sweep = command.sweep
    monkeypatch.setattr(command, "sweep", lambda *a, **k: lengths.append(k["progress"].steps_made(6)) or sweep(*a, **k))
    assert cli.main([*arguments, str(tmp_path / "cut")]) == 0
    continued = json.loads(capsys.readouterr().out)
    assert lengths == [45 * 6 + 45 * 4]
    np.testing.assert_allclose(
        continued["methods"]["ill_only"]["train"]["rir"], whole["methods"]["ill_only"]["train"]["rir"], rtol=1e-9
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["immunize", "--data", "nonsense"], "data"),
        (["immunize", "--method", "nonsense"], "method"),
        (["immunize", "--primary", "11"], "primary"),
        (["immunize", "--steps", "0"], "steps"),
        (["immunize", "--batch-size", "100000"], "batch_size"),
        (["immunize", "--lambda-harmful", "-1"], "lambda_harmful"),
        (["immunize", "--lambda-primary", "nan"], "lambda_primary"),
        (["immunize", "--method", "imma", "--lambda-primary", "1"], "lambda_primary"),
        (["immunize", "--learning-rate", "0"], "learning_rate"),
        (["immunize", "--data", "mnist", "--data-dir", "EMPTY"], "train-images-idx3-ubyte"),
        (["immunize", "--data", "house_prices", "--data-dir", "EMPTY"], "D1.csv"),
        (["immunize", "--out", "FILE/below"], "--out"),
        (["immunize", "--method", "pencil", "--budget", "0.5"], "budget"),
        (["immunize", "--method", "pencil", "--budget", "much"], "budget"),
        (["immunize", "--method", "pencil", "--ridge", "-1"], "ridge"),
        (["immunize", "--method", "pencil", "--horizon", "10"], "--objective signal"),
        (["immunize", "--method", "pencil", "--objective", "signal", "--horizon", "0"], "horizon"),
        (["immunize", "--method", "pencil", "--lambda-primary", "1"], "lambda_primary"),
        (["immunize", "--method", "algorithm1", "--budget", "5"], "budget"),
        (["immunize", "--resamples", "3", "--steps", "1"], "resamples"),
        (["sweep", "--methods", "imma", "--ridge", "1"], "ridge"),
        (["diagnose", "--budgets", "0"], "budget"),
        (["diagnose", "--top-k", "0"], "top_k"),
        (["diagnose", "--data", "nonsense"], "data"),
        (["diagnose", "--rtol", "1"], "rtol"),
        (["diagnose", "--primary-no-slower-at", "0"], "primary_no_slower_at"),
        (["sweep", "--kind", "nonsense"], "kind"),
        (["sweep", "--data", "house_prices"], "digits"),
        (["sweep", "--seeds", "0"], "seeds"),
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
    assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out/*")), "nothing half-written"


def test_help_needs_no_data_and_lists_the_commands():
    done = subprocess.run([sys.executable, "-m", "cimm_jax", "--help"], capture_output=True, text=True, check=True)
    assert "immunize" in done.stdout
    assert "sweep" in done.stdout
    assert "diagnose" in done.stdout
