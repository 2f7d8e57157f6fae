"""`cimm immunize --train-from`, then `cimm attack` and `cimm report` on its run, with a network small enough for tests."""

import contextlib
import io
import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from training.small_networks import NETWORK

from cimm_jax import cli
from cimm_jax.commands import deep_tail
from cimm_jax.commands.deep_features import read_deep_inputs
from cimm_jax.networks.weights import load_weights
from cimm_jax.numerics.spectra import PseudoInverse, feature_condition_number
from cimm_jax.networks.training import train_tail

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

CUT = "layer3.0"


def immunize(inputs, out, *more, method="algorithm1", train_from=CUT):
    paths = ["--primary", str(inputs / "primary"), "--harmful", str(inputs / "harmful")]
    model = ["--model", "small", "--weights", str(inputs / "small.safetensors"), "--cache", str(inputs / "cache")]
    settings = ["--method", method, "--train-from", train_from, "--learning-rate", "0.01", *more]
    return cli.main(["immunize", *model, *paths, *settings, "--out", str(out)])


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tail"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert immunize(inputs, folder, "--epochs", "3", "--batch-size", "12", "--strength", "1.5") == 0
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder


@pytest.fixture(scope="module")
def features(inputs, run):
    """Features of both tasks under the published weights and under those that the run wrote, through the whole network."""
    paths = {task: str(inputs / task) for task in ("primary", "harmful")}
    read = read_deep_inputs(model="small", weights=inputs / "small.safetensors", image_rows=None, strict=True, **paths)
    return [of.data(inputs / "cache") for of in (read, read.with_weights(run / "model.safetensors"))]


def test_the_exported_network_is_what_was_measured(run, features):
    before, after = features
    results = json.loads((run / "results.json").read_text())
    for task in ("primary", "harmful"):
        kappas = [
            float(feature_condition_number(getattr(data.features.pair(), task).x, PseudoInverse()).kappa)
            for data in (before, after)
        ]
        recorded = results["history"][f"kappa_{task}"]
        assert len(recorded) == 4, "before the first epoch and after each"
        assert [recorded[0], recorded[-1]] == pytest.approx(kappas, rel=1e-3)
        ratio = results["ratios"]["train"]["PseudoInverse"][f"{task}_ratio"]
        assert ratio == pytest.approx(kappas[1] / kappas[0], rel=1e-3)
        assert abs(ratio - 1) > 1e-3, "training moved something"
    for part, kept in results["deep"]["primary_kept"].items():
        for data, name in ((before, "accuracy_before"), (after, "accuracy_after")):
            images = getattr(data.features.primary, part)
            right = data.head.logits(images.x).argmax(1) == images.labels
            assert kept[name] == pytest.approx(right.mean())
    assert results["history"]["policy"] == "PseudoInverse"
    assert len(results["history"]["loss"]) == 3 * 3
    assert len(results["deep"]["lambdas"]) == 2
    assert results["deep"]["training"]["strength"] == 1.5
    assert results["groups"]["ReleasedCode"]["groups"] == 20


def test_only_blocks_behind_the_cut_and_the_head_changed(inputs, run):
    before, after = (load_weights(NETWORK, file) for file in (inputs / "small.safetensors", run / "model.safetensors"))
    for name in before.cuts[:-1]:
        leaves = zip(*(jax.tree.leaves(nnx.state(network.parts[name])) for network in (before, after)), strict=True)
        assert all(np.array_equal(*pair) for pair in leaves) is (name != CUT)
    assert not np.array_equal(before.head.kernel[...], after.head.kernel[...])


def test_what_is_printed(run):
    printed = (run / "printed.txt").read_text()
    for expected in (
        "ReleasedCode",
        "groups of 36",
        "Primary accuracy on heldout",
        "Verdict on train",
        "targets centred",
    ):
        assert expected in printed
    assert (run / "training.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_continues_and_a_finished_one_is_not_trained_again(
    inputs, run, tmp_path, monkeypatch, capsys
):
    arguments = ["--epochs", "3", "--batch-size", "12", "--strength", "1.5"]
    made = []

    def watched(*settings, progress, **more):
        def told(steps):
            made.append(steps)
            if interrupted and steps == 7:
                raise KeyboardInterrupt
            progress(steps)

        return train_tail(*settings, progress=told, **more)

    monkeypatch.setattr(deep_tail, "train_tail", watched)
    interrupted = True
    assert immunize(inputs, tmp_path / "tail", *arguments) == 130
    assert "goes on" in capsys.readouterr().err
    interrupted, made = False, []
    assert immunize(inputs, tmp_path / "tail", *arguments) == 0
    assert made == [7, 8, 9], "two epochs of three steps were saved"
    again, whole = (json.loads((folder / "results.json").read_text()) for folder in (tmp_path / "tail", run))
    for key in ("ratios", "history", "verdict"):
        assert again[key] == whole[key]
    made = []
    assert immunize(inputs, tmp_path / "tail", *arguments) == 0
    assert made == []


def test_attack_and_report_understand_the_run(run, tmp_path, capsys):
    attackers = ["line_search", "normal equations"]
    arguments = ["attack", str(run), "--attackers", *attackers, "--attack-steps", "50", "--rates", "2", "--seeds", "1"]
    assert cli.main([*arguments, "--out", str(tmp_path / "attack")]) == 0
    assert "best held-out accuracy" in capsys.readouterr().out
    harmful = json.loads((tmp_path / "attack/results.json").read_text())["tasks"]["harmful"]
    assert list(harmful) == ["undefended", "tail"]
    assert harmful["undefended"]["normal equations"]["accuracy"]["mean"] > 0.9
    curves = json.loads((run / "results.json").read_text())["excess_left"]["train"]
    left = {name: records["line_search"]["left"]["mean"] for name, records in harmful.items()}
    assert left["tail"] != pytest.approx(left["undefended"], rel=1e-3)
    assert left["undefended"] == pytest.approx(curves["harmful undefended"][50], rel=0.05)
    assert left["tail"] == pytest.approx(curves["harmful immunized"][50], rel=0.05)
    assert cli.main(["report", str(run), str(tmp_path / "attack"), "--out", str(tmp_path / "report")]) == 0
    assert f"small trained from {CUT}" in (tmp_path / "report/report.html").read_text()


@pytest.mark.parametrize(
    ("more", "settings", "named"),
    [
        ([], {"train_from": "layer9"}, "layer2.0, layer3.0"),
        ([], {"train_from": "features"}, "layer2.0, layer3.0"),
        ([], {"method": "pencil"}, "algorithm1, ill_only, opt_kappa, imma"),
        (["--batch-size", "999"], {}, "batch_size: needs 1 to 36"),
        (["--batch-size", "0"], {}, "batch_size"),
        (["--epochs", "0"], {}, "epochs: needs at least 1"),
        (["--strength", "0"], {}, "strength: needs a positive"),
        (["--strength", "2", "--lambda-harmful", "1"], {"method": "ill_only"}, "strength: is of balanced penalties"),
        (["--label-smoothing", "1"], {}, "label_smoothing: needs a number"),
        (["--learning-rate", "-1"], {}, "learning_rate"),
        (["--lambda-harmful", "-1"], {}, "lambda_harmful"),
        (["--lambda-primary", "1"], {"method": "imma"}, "lambda_primary: imma has no such weight"),
        (["--steps", "7"], {}, "steps: is a setting of maps"),
        (["--resamples", "7"], {}, "resamples: is a setting of maps"),
        (["--budget", "7"], {}, "budget: is a setting of maps"),
    ],
)
def test_bad_input_is_one_line_and_status_2(inputs, tmp_path, capsys, more, settings, named):
    assert immunize(inputs, tmp_path / "out", *more, **settings) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists(), "nothing was computed"


def test_training_settings_need_a_cut_and_a_network(inputs, tmp_path, capsys):
    paths = ["--primary", str(inputs / "primary"), "--harmful", str(inputs / "harmful")]
    model = ["--model", "small", "--weights", str(inputs / "small.safetensors")]
    assert cli.main(["immunize", *model, *paths, "--epochs", "2", "--out", str(tmp_path)]) == 2
    assert "epochs: is a setting of --train-from" in capsys.readouterr().err
    assert cli.main(["immunize", "--train-from", CUT, "--out", str(tmp_path)]) == 2
    assert "train_from: is a setting of a network" in capsys.readouterr().err


def test_training_that_kills_the_features_says_so(inputs, tmp_path, capsys):
    assert immunize(inputs, tmp_path, "--learning-rate", "1e6", "--batch-size", "12", "--epochs", "1") == 2
    assert "choose a smaller one" in capsys.readouterr().err


def test_attacks_refuse_maps_beside_trained_blocks_and_maps_to_undo(run, tmp_path, capsys):
    results = json.loads((run / "results.json").read_text())
    (tmp_path / "map").mkdir()
    settings = {**results["settings"], "train_from": None}
    (tmp_path / "map/results.json").write_text(json.dumps({**results, "settings": settings}))
    assert cli.main(["attack", str(run), str(tmp_path / "map"), "--out", str(tmp_path / "out")]) == 2
    assert "attack them apart" in capsys.readouterr().err
    undo = ["--attackers", "undo the map + adam"]
    assert cli.main(["attack", str(run), *undo, "--out", str(tmp_path / "out")]) == 2
    assert "trained blocks have none" in capsys.readouterr().err
    shutil.copytree(run, tmp_path / "broken")
    (tmp_path / "broken/model.safetensors").write_bytes(b"")
    assert cli.main(["attack", str(tmp_path / "broken"), "--out", str(tmp_path / "out")]) == 2
    assert "safetensors" in capsys.readouterr().err
