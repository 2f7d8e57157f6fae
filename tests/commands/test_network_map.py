"""`cimm immunize --model`, `cimm attack` and `cimm report` on its runs, with a network small enough for tests."""

import contextlib
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from small_images import CLASSES
from training.small_networks import NETWORK

from cimm_jax import cli, models
from cimm_jax.commands.deep_attack import _deep_settings
from cimm_jax.commands.deep_features import DeepInputs, read_deep_inputs
from cimm_jax.commands.defences import ImmunizedRun
from cimm_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

FEATURES = 12
GIVEN = ["--model", "small", "--weights", "W", "--primary", "P", "--harmful", "H"]


def immunize(inputs, out, *more, method="pencil"):
    paths = ["--primary", str(inputs / "primary"), "--harmful", str(inputs / "harmful")]
    model = ["--model", "small", "--weights", str(inputs / "small.safetensors"), "--cache", str(inputs / "cache")]
    return cli.main(["immunize", *model, *paths, "--method", method, *more, "--out", str(out)])


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "deep"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert immunize(inputs, folder, "--budget", "1e3") == 0
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder


def test_immunize_keeps_the_primary_logits_and_says_what_it_found(inputs, run):
    printed = (run / "printed.txt").read_text()
    for expected in (
        "ReleasedCode",
        "groups of 36",
        "Primary accuracy",
        "unchanged",
        "Verdict on train",
        "targets centred",
    ):
        assert expected in printed
    results = json.loads((run / "results.json").read_text())
    assert (results["settings"]["objective"], results["settings"]["ridge"]) == ("signal", 1e-6), "defaults for networks"
    assert results["rows"] == {"train": {"primary": 36, "harmful": 36}, "heldout": {"primary": 18, "harmful": 18}}
    for kept in results["deep"]["primary_kept"].values():
        assert kept["unchanged"]
        assert kept["accuracy_before"] == kept["accuracy_after"]
    assert results["ratios"]["train"]["PseudoInverse"]["rir"] > 10
    assert results["groups"]["PseudoInverse"]["groups"] == 20
    assert results["deep"]["harmful"]["train"]["classes"] == CLASSES
    theta, head = load_file(run / "theta.safetensors")["theta"], load_file(run / "head.safetensors")
    original = models.weights.load_weights(NETWORK, inputs / "small.safetensors").head
    np.testing.assert_allclose(theta @ head["kernel"], original.kernel[...], atol=1e-4)
    np.testing.assert_array_equal(head["bias"], original.bias[...])


def test_attack_and_report_understand_the_run(run, tmp_path, capsys):
    attackers = ["line_search", "adam", "undo the map + line_search"]
    arguments = ["attack", str(run), "--attackers", *attackers, "--attack-steps", "50", "--rates", "2", "--seeds", "1"]
    assert cli.main([*arguments, "--out", str(tmp_path / "attack")]) == 0
    printed = capsys.readouterr().out
    assert "best held-out accuracy" in printed
    results = json.loads((tmp_path / "attack/results.json").read_text())
    harmful = results["tasks"]["harmful"]
    assert list(harmful) == ["undefended", "deep"]
    assert list(harmful["deep"]) == attackers
    undefended, deep = (
        {name: record["accuracy"]["mean"] for name, record in harmful[who].items()} for who in ("undefended", "deep")
    )
    assert undefended["line_search"] > 0.9
    assert deep["undo the map + line_search"] == pytest.approx(undefended["line_search"], abs=0.06)
    # The attackers' line search and the exact recurrences of `cimm immunize` agree, on targets without their constant.
    immunized = json.loads((run / "results.json").read_text())
    for who, state in (("undefended", "undefended"), ("deep", "immunized")):
        expected = immunized["excess_left"]["train"][f"harmful {state}"][50]
        assert harmful[who]["line_search"]["left"]["mean"] == pytest.approx(expected, rel=1e-5)
    error = harmful["deep"]["line_search"]["heldout_left"]["mean"]
    assert error == pytest.approx((1 - deep["line_search"]) / (1 - 1 / CLASSES))
    assert results["extractors"]["deep"]["train"]["ratios"] == immunized["ratios"]["train"]
    primary = results["tasks"]["primary"]
    assert list(primary) == list(harmful)
    assert primary["undefended"]["line_search"]["accuracy"]["mean"] > 0.9
    for who, state in (("undefended", "undefended"), ("deep", "immunized")):
        expected = immunized["excess_left"]["train"][f"primary {state}"][50]
        assert primary[who]["line_search"]["left"]["mean"] == pytest.approx(expected, rel=1e-5, abs=1e-12)
    for task in ("harmful", "primary"):
        assert f"best held-out accuracy, {task} classes" in printed
    report = ["report", str(run), str(tmp_path / "attack"), "--out", str(tmp_path / "report")]
    assert cli.main(report) == 0
    page = (tmp_path / "report/report.html").read_text()
    assert "small" in page
    for told in (printed, page, (tmp_path / "report/model-card.md").read_text()):
        assert "errors, over those of guessing" in told
        assert "zero probe" not in told


def test_the_softmax_loss(run, tmp_path):
    arguments = ["attack", str(run), "--loss", "softmax", "--attackers", "momentum", "--attack-steps", "50"]
    assert cli.main([*arguments, "--rates", "2", "--seeds", "1", "--harmful-only", "--out", str(tmp_path)]) == 0
    tasks = json.loads((tmp_path / "results.json").read_text())["tasks"]
    assert list(tasks) == ["harmful"]
    assert tasks["harmful"]["undefended"]["momentum"]["accuracy"]["mean"] > 0.9


def test_what_the_attackers_cannot_be_given_is_refused_before_features_are_computed(
    inputs, run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(DeepInputs, "data", lambda *_: pytest.fail("features were computed"))
    flat = tmp_path / "images"
    flat.mkdir()
    for path in (inputs / "harmful/train").glob("*/*"):
        shutil.copy(path, flat / f"{path.parent.name}.jpg")  # one image a class
    results = json.loads((run / "results.json").read_text())
    for name, setting, expected in (
        ("two", {"harmful_classes": ["class0", "class1"]}, "loss: the harmful task has two classes"),
        ("flat", {"harmful": str(flat)}, "harmful: has no held-out images"),
    ):
        folder = tmp_path / name
        shutil.copytree(run, folder)
        (folder / "results.json").write_text(json.dumps({**results, "settings": {**results["settings"], **setting}}))
        assert cli.main(["attack", str(folder), "--loss", "softmax", "--out", str(tmp_path / "out")]) == 2
        assert expected in capsys.readouterr().err


def test_damaged_images_are_counted_or_refused(inputs):
    paths = {task: str(inputs / task) for task in ("primary", "harmful")}
    settings = {
        "model": "small",
        "weights": inputs / "small.safetensors",
        "image_rows": None,
    }
    (inputs / "harmful/train/class0/broken.jpg").write_text("no image")
    try:
        described = read_deep_inputs(**settings, **paths, strict=False).data(inputs / "cache").described
        assert described["harmful"]["train"]["skipped"] == 1
        assert described["primary"]["train"]["skipped"] == 0
        with pytest.raises(InputError, match=r"broken\.jpg"):
            read_deep_inputs(**settings, **paths, strict=True)
    finally:
        (inputs / "harmful/train/class0/broken.jpg").unlink()


def test_some_classes_only(inputs, tmp_path):
    (tmp_path / "harmful.txt").write_text("class2\nclass0\n")
    settings = {"model": "small", "weights": inputs / "small.safetensors", "image_rows": None, "strict": False}
    data = read_deep_inputs(
        **settings,
        **{task: str(inputs / task) for task in ("primary", "harmful")},
        primary_classes=("class1", "class2"),
        harmful_classes=[str(tmp_path / "harmful.txt")],
    ).data(inputs / "cache")
    assert np.unique(data.features.primary.train.labels).tolist() == [1, 2], "the head's numbering"
    assert data.described["primary"]["train"]["classes"] == data.head.kernel.shape[1] == CLASSES
    assert data.features.harmful.train.labels.tolist() == [1] * 12 + [0] * 12
    assert data.described["harmful"]["heldout"]["classes"] == data.features.harmful.classes == 2


def test_views_are_of_training_images_only(inputs):
    settings = {"model": "small", "weights": inputs / "small.safetensors", "image_rows": None, "strict": False}
    paths = {task: str(inputs / task) for task in ("primary", "harmful")}
    plain, viewed = (read_deep_inputs(**settings, **paths, views=views).data(inputs / "cache") for views in (1, 3))
    for task in ("primary", "harmful"):
        (train, heldout, _), (more, same, _) = (getattr(data.features, task) for data in (plain, viewed))
        assert len(more.x) == len(more.labels) == 3 * len(train.x)
        np.testing.assert_allclose(more.x[: len(train.x)], train.x, rtol=1e-4, atol=1e-5)
        assert not np.allclose(more.x[len(train.x) : 2 * len(train.x)], train.x, rtol=1e-2)
        np.testing.assert_array_equal(same.x, heldout.x)
        assert viewed.described[task]["train"]["views"] == 3
        assert viewed.described[task]["heldout"]["views"] == 1
    np.testing.assert_array_equal(viewed.plain_primary()["train"].labels, plain.features.primary.train.labels)
    assert list(viewed.plain_primary()) == ["train", "heldout"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--model", "nonsense"], "efficientnet_lite0"),
        (["--model", "small"], "weights"),
        (["--model", "small", "--weights", "W"], "primary"),
        (["--model", "small", "--weights", "W", "--primary", "P"], "harmful"),
        (["--model", "small", "--weights", "MISSING", "--primary", "P", "--harmful", "H"], "weights"),
        (["--model", "small", "--weights", "W", "--primary", "MISSING", "--harmful", "H"], "not a folder"),
        (["--model", "small", "--weights", "W", "--primary", "FLAT", "--harmful", "H"], "1 classes"),
        (["--model", "small", "--weights", "W", "--primary", "P", "--harmful", "H", "--image-rows", "5"], "rows"),
        (["--model", "small", "--weights", "W", "--primary", "P", "--harmful", "H", "--batch-size", "999"], "batch"),
        (["--model", "resnet18", "--weights", "W", "--primary", "P", "--harmful", "H"], "another architecture"),
        ([*GIVEN, "--views", "0"], "views: needs at least 1"),
        ([*GIVEN, "--primary-classes", "class0"], "primary_classes: needs at least 2"),
        ([*GIVEN, "--harmful-classes", "class0", "class7"], "class7 unknown; choose among class0, class1, class2"),
        (["--primary-classes", "a", "b"], "primary_classes: is a setting of a network"),
        (["--weights", "W"], "weights: is a setting of a network"),
        (["--strict"], "strict"),
    ],
)
def test_bad_input_is_one_line_and_status_2(inputs, tmp_path, capsys, arguments, named):
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "flat/a.png")
    places = {
        "W": inputs / "small.safetensors",
        "P": inputs / "primary",
        "H": inputs / "harmful",
        "FLAT": tmp_path / "flat",
        "MISSING": tmp_path / "missing",
    }
    placed = [str(places.get(argument, argument)) for argument in arguments]
    cache = ["--cache", str(inputs / "cache")] if "--model" in arguments else []
    method = ["--method", "algorithm1", "--out", str(tmp_path / "out")]
    assert cli.main(["immunize", *placed, *cache, *method]) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "named"),
    [(["--primary", "0v1"], "primary"), (["--benign", "4v5"], "benign"), (["--rows", "5"], "rows")],
)
def test_attacks_refuse_what_the_run_decides(run, tmp_path, capsys, more, named):
    assert cli.main(["attack", str(run), *more, "--out", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err


def test_attacks_refuse_runs_of_another_kind_or_network(run, tmp_path, capsys):
    results = json.loads((run / "results.json").read_text())
    for name, change in (("linear", {"model": None}), ("other", {"weights": "elsewhere"})):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps({**results, "settings": {**results["settings"], **change}}))
        save_file({"theta": np.eye(FEATURES)}, folder / "theta.safetensors")
        assert cli.main(["attack", str(run), str(folder), "--out", str(tmp_path / "out")]) == 2
        assert "differ" in capsys.readouterr().err


def test_a_run_without_a_younger_setting_goes_with_its_default(run):
    new = ImmunizedRun("new", json.loads((run / "results.json").read_text()), np.eye(FEATURES))
    younger = ("views", "primary_classes", "harmful_classes")
    settings = {name: value for name, value in new.settings.items() if name not in younger}
    assert _deep_settings(ImmunizedRun("old", {"settings": settings}, new.theta)) == _deep_settings(new)
    settings["harmful_classes"] = ["class0", "class1"]
    assert _deep_settings(ImmunizedRun("other", {"settings": settings}, new.theta)) != _deep_settings(new)
