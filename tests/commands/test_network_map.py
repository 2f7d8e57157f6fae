"""`cimm immunize --model`, `cimm attack` and `cimm report` on its runs, with a network small enough for tests."""

import contextlib
import io
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from commands.network_runs import immunize_map, printed
from networks.small_networks import NETWORK
from PIL import Image
from safetensors.numpy import load_file, save_file
from sample_records import immunize_record
from small_images import CLASSES

from cimm_jax.commands import cli
from cimm_jax.errors import InputError
from cimm_jax.networks.weights import load_weights
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord
from cimm_jax.runs.run_folder import read_record_of, write_record
from cimm_jax.runs.source import NetworkSource

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

FEATURES = 12
GIVEN = ["--model", "small", "--weights", "W", "--primary", "P", "--harmful", "H"]


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "deep"
    shown = printed(immunize_map, inputs, folder, "--budget", "1e3")
    (folder / "printed.txt").write_text(shown)
    return folder


@pytest.fixture(scope="module")
def erased(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "eraser"
    with contextlib.redirect_stdout(io.StringIO()):
        assert immunize_map(inputs, folder, method="erase") == 0
    return folder


@pytest.fixture
def source(inputs):
    paths = {task: str(inputs / task) for task in ("primary", "harmful")}
    return NetworkSource("small", inputs / "small.safetensors", **paths)


def test_immunize_keeps_the_primary_logits_and_says_what_it_found(inputs, run):
    shown = (run / "printed.txt").read_text()
    for expected in (
        "ReleasedCode",
        "groups of 36",
        "accuracy before",
        "unchanged",
        "Training rows:",
        "36 images of 3 classes",
    ):
        assert expected in shown
    assert f"To be published: {run / 'model.safetensors'}\n" in shown
    record = read_record_of(run, ImmunizeRecord)
    settings = record.manifest.settings
    assert (settings["objective"], settings["ridge"]) == ("signal", 1e-6), "defaults for networks"
    assert record.rows == {"train": {"primary": 36, "harmful": 36}, "heldout": {"primary": 18, "harmful": 18}}
    assert list(record.kept) == ["train", "heldout"]
    for kept in record.kept.values():
        assert kept.unchanged
        assert kept.accuracy_before == kept.accuracy_after
    assert record.measures.parts["train"].ratios["PseudoInverse"].rir > 10
    assert record.measures.groups["PseudoInverse"].groups == 20
    assert all(part.intervals is None for part in record.measures.parts.values()), "none for networks"
    assert (record.network.features, record.network.harmful["train"].classes) == (FEATURES, CLASSES)
    assert record.manifest.data_sha256 == record.network.checksums()
    assert (record.history, record.training) == (None, None)
    theta, published = load_file(run / "theta.safetensors")["theta"], load_file(run / "model.safetensors")
    original = load_weights(NETWORK, inputs / "small.safetensors").head
    np.testing.assert_allclose(theta @ published["linear.weight"].T, original.kernel[...], atol=1e-4)
    np.testing.assert_array_equal(published["linear.bias"], original.bias[...])
    np.testing.assert_array_equal(published["immunization.weight"], theta.T.astype(np.float32))
    assert (run / "immunize.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_attack_and_report_understand_the_run(inputs, run, tmp_path, capsys):
    attackers = ["line_search", "adam", "undo the map + line_search"]
    arguments = ["attack", str(run), "--attackers", *attackers, "--attack-steps", "50", "--rates", "2", "--seeds", "1"]
    cache = ["--cache", str(inputs / "cache")]
    assert cli.main([*arguments, *cache, "--out", str(tmp_path / "attack")]) == 0
    shown = capsys.readouterr().out
    record, immunized = read_record_of(tmp_path / "attack", AttackRecord), read_record_of(run, ImmunizeRecord)
    harmful, primary = record.tasks["harmful"], record.tasks["primary"]
    assert list(harmful) == list(primary) == list(record.extractors) == ["undefended", "deep"]
    assert list(harmful["deep"]) == attackers
    assert record.heldout_by == "errors"

    def accuracies(outcomes):
        return {name: outcome.accuracy.estimate for name, outcome in outcomes.items()}

    undefended, deep = accuracies(harmful["undefended"]), accuracies(harmful["deep"])
    assert undefended["line_search"] > 0.9
    assert accuracies(primary["undefended"])["line_search"] > 0.9
    assert deep["undo the map + line_search"] == pytest.approx(undefended["line_search"], abs=0.06)
    # The attackers' line search and the exact recurrences of `cimm immunize` agree, on targets without their constant.
    excess = immunized.measures.parts["train"].excess
    for who, state in (("undefended", "undefended"), ("deep", "immunized")):
        for outcomes, curves, within in ((harmful, excess.harmful, {}), (primary, excess.primary, {"abs": 1e-12})):
            left = outcomes[who]["line_search"].left.estimate
            assert left == pytest.approx(getattr(curves, state)[50], rel=1e-5, **within)
    error = harmful["deep"]["line_search"].heldout_left.estimate
    assert error == pytest.approx((1 - deep["line_search"]) / (1 - 1 / CLASSES))
    attacked = record.extractors["deep"]
    assert (attacked.kind, attacked.kept) == ("map", immunized.kept)
    assert attacked.measures == immunized.measures.without_curves()
    assert record.source == immunized.source
    assert record.network == immunized.network
    report = ["report", str(run), str(tmp_path / "attack"), "--out", str(tmp_path / "report")]
    assert cli.main(report) == 0
    page = (tmp_path / "report/report.html").read_text()
    for told in (shown, page, (tmp_path / "report/model-card.md").read_text()):
        assert "small" in told
        assert "errors, over those of guessing" in told
        assert "zero probe" not in told


def test_behind_an_eraser_the_head_is_refitted_and_the_normal_equations_find_nothing(inputs, erased, tmp_path):
    kept = read_record_of(erased, ImmunizeRecord).kept
    theta, published = load_file(erased / "theta.safetensors")["theta"], load_file(erased / "model.safetensors")
    assert np.linalg.matrix_rank(theta) == CLASSES, "one direction less than classes, and one for the constant"
    subject = NetworkSubject(
        NetworkSource("small", inputs / "small.safetensors", *(str(inputs / task) for task in ("primary", "harmful"))),
        inputs / "cache",
    )
    for part, labelled in subject.published_primary().items():
        behind = labelled.x @ published["immunization.weight"].T
        logits = behind @ published["linear.weight"].T + published["linear.bias"]
        assert kept[part].accuracy_after == pytest.approx(np.mean(logits.argmax(1) == labelled.labels))
        assert 1e-3 < kept[part].largest_change < 0.2, "near, but not the same"
        assert not kept[part].unchanged
    arguments = [
        "attack",
        str(erased),
        "--attackers",
        "normal equations",
        "whiten + line_search",
        "--attack-steps",
        "50",
    ]
    more = ["--seeds", "1", "--harmful-only", "--cache", str(inputs / "cache"), "--out", str(tmp_path)]
    assert cli.main([*arguments, *more]) == 0
    record = read_record_of(tmp_path, AttackRecord)
    assert record.extractors["eraser"].kept == kept
    for outcomes in zip(*(record.tasks["harmful"][name].values() for name in ("undefended", "eraser")), strict=True):
        undefended, defended = (outcome.accuracy.estimate for outcome in outcomes)
        assert undefended > 0.9
        assert defended < 0.6


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--rank", "3"], "rank: 3 is more than the 2 directions of the harmful labels"),
        (["--rank", "12"], "rank: 12 of 12 directions leaves nothing"),
        (["--rank", "0"], "rank: needs a whole number of at least 1, got 0"),
        (["--loss-budget", "1"], "--loss-budget: needs a share"),
        (["--harmful", "ONE"], "harmful: .* has images of one class only"),
    ],
)
def test_an_eraser_that_cannot_be_is_refused_before_features_are_computed(
    inputs, tmp_path, capsys, monkeypatch, more, expected
):
    monkeypatch.setattr(NetworkSubject, "_outputs", lambda *_: pytest.fail("features were computed"))
    for part in ("train", "test"):
        shutil.copytree(inputs / "harmful" / part / "class0", tmp_path / "one" / part / "class0")
    more = [str(tmp_path / "one") if word == "ONE" else word for word in more]
    assert immunize_map(inputs, tmp_path / "out", *more, method="erase") != 0
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(expected, line)


def test_the_softmax_loss(inputs, run, tmp_path, capsys):
    arguments = ["attack", str(run), "--loss", "softmax", "--attackers", "momentum", "--attack-steps", "50"]
    more = ["--rates", "2", "--seeds", "1", "--harmful-only", "--cache", str(inputs / "cache")]
    assert cli.main([*arguments, *more, "--json", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["budget"]["loss"] == "softmax"
    tasks = read_record_of(tmp_path, AttackRecord).tasks
    assert list(tasks) == ["harmful"]
    assert tasks["harmful"]["undefended"]["momentum"].accuracy.estimate > 0.9


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"harmful_classes": ("class0", "class1")}, "loss: the harmful task has two classes"),
        ({"harmful": "FLAT"}, "harmful: has no held-out images"),
    ],
)
def test_what_attackers_cannot_be_given_is_refused_before_features_are_computed(
    inputs, run, tmp_path, capsys, monkeypatch, changes, expected
):
    monkeypatch.setattr(NetworkSubject, "_outputs", lambda *_: pytest.fail("features were computed"))
    flat = tmp_path / "images"
    flat.mkdir()
    for path in (inputs / "harmful/train").glob("*/*"):
        shutil.copy(path, flat / f"{path.parent.name}.jpg")  # one image a class
    record = read_record_of(run, ImmunizeRecord)
    placed = {name: str(flat) if value == "FLAT" else value for name, value in changes.items()}
    shutil.copytree(run, tmp_path / "other")
    write_record(tmp_path / "other", replace(record, source=replace(record.source, **placed)))
    assert cli.main(["attack", str(tmp_path / "other"), "--loss", "softmax", "--out", str(tmp_path / "out")]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_damaged_images_are_counted_or_refused(inputs, source):
    broken = inputs / "harmful/train/class0/broken.jpg"
    broken.write_text("no image")
    try:
        described = NetworkSubject(source, inputs / "cache").network_data
        assert described.harmful["train"].skipped == 1
        assert described.harmful["train"].skipped_files == ("train/class0/broken.jpg: no image",)
        assert described.primary["train"].skipped == 0
        with pytest.raises(InputError, match=r"broken\.jpg"):
            NetworkSubject(replace(source, strict=True), inputs / "cache")
    finally:
        broken.unlink()


def test_some_classes_only(inputs, source, tmp_path):
    (tmp_path / "harmful.txt").write_text("class2\nclass0\n")
    classes = {"primary_classes": ("class1", "class2"), "harmful_classes": (str(tmp_path / "harmful.txt"),)}
    subject = NetworkSubject(replace(source, **classes), inputs / "cache")
    assert np.unique(subject.published.primary.train.labels).tolist() == [1, 2], "the head's numbering"
    assert subject.network_data.primary["train"].classes == subject.head.kernel.shape[1] == CLASSES
    assert subject.published.harmful.train.labels.tolist() == [1] * 12 + [0] * 12
    assert subject.network_data.harmful["heldout"].classes == subject.published.harmful.classes == 2
    assert subject.names.harmful == "2 classes of harmful"


def test_a_share_of_primary_images_in_one_part_judges(inputs, source, tmp_path):
    """Here of one image a class, so that half of the classes are nobody's to train on."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for folder in sorted((inputs / "primary/train").iterdir()):
        shutil.copy(next(folder.glob("*")), flat / f"{folder.name}.jpg")
    subject = NetworkSubject(replace(source, primary=str(flat), primary_heldout=0.3), tmp_path / "cache")
    train, heldout = subject.images["primary"]
    assert (len(train), len(heldout)) == (CLASSES - 1, 1)
    assert subject.judging_primary is heldout
    assert not set(train.labels) & set(heldout.labels)
    assert subject.head.kernel.shape[1] == CLASSES
    with pytest.raises(InputError, match="primary_heldout: the primary images have a held-out part of their own"):
        NetworkSubject(replace(source, primary_heldout=0.3), tmp_path / "cache")
    with pytest.raises(InputError, match="primary_heldout: needs a share from 0 to below 1"):
        NetworkSubject(replace(source, primary_heldout=1.0), tmp_path / "cache")


def test_views_are_of_training_images_only(inputs, source):
    plain, viewed = (NetworkSubject(replace(source, views=views), inputs / "cache") for views in (1, 3))
    for task in ("primary", "harmful"):
        (train, heldout, _), (more, same, _) = (getattr(subject.published, task) for subject in (plain, viewed))
        assert len(more.x) == len(more.labels) == 3 * len(train.x)
        np.testing.assert_allclose(more.x[: len(train.x)], train.x, rtol=1e-4, atol=1e-5)
        assert not np.allclose(more.x[len(train.x) : 2 * len(train.x)], train.x, rtol=1e-2)
        np.testing.assert_array_equal(same.x, heldout.x)
        described = getattr(viewed.network_data, task)
        assert (described["train"].views, described["heldout"].views) == (3, 1)
    labels = viewed.published_primary()["train"].labels
    np.testing.assert_array_equal(labels, plain.published.primary.train.labels)
    assert list(viewed.published_primary()) == ["train", "heldout"]


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
        ([*GIVEN, "--image-rows", "5"], "rows"),
        ([*GIVEN, "--batch-size", "999"], "batch"),
        (["--model", "resnet18", "--weights", "W", "--primary", "P", "--harmful", "H"], "another architecture"),
        ([*GIVEN, "--views", "0"], "views: needs at least 1"),
        ([*GIVEN, "--primary-classes", "class0"], "--primary-classes: needs at least 2"),
        ([*GIVEN, "--harmful-classes", "class0", "class7"], "class7 unknown; choose among class0, class1, class2"),
        ([*GIVEN, "--data", "digits"], "data: is a setting of data sets, not of maps of a network (--model)"),
        (
            [*GIVEN, "--epochs", "2"],
            "epochs: is a setting of an extractor behind own features (--extractor) or trained blocks (--train-from)",
        ),
        ([*GIVEN, "--resamples", "3"], "resamples"),
        (["--primary-classes", "a", "b"], "--primary-classes: is a setting of maps of a network"),
        (["--weights", "W"], "weights: is a setting of maps of a network"),
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
    assert cli.main(["immunize", *placed, *cache, "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--primary", "0v1"], "primary: 0v1 is not a folder"),
        (
            ["--benign", "4v5"],
            "benign: is a setting of methods made now or own features without a run or runs of a data set",
        ),
        (["--rows", "5"], "rows"),
        (["--data-dir", "folder"], "--data-dir"),
    ],
)
def test_attacks_refuse_what_the_run_decides(run, tmp_path, capsys, more, named):
    assert cli.main(["attack", str(run), *more, "--out", str(tmp_path / "out")]) == 2
    assert named in capsys.readouterr().err


def test_attacks_refuse_runs_of_another_kind_or_network(run, tmp_path, capsys):
    record = read_record_of(run, ImmunizeRecord)
    weights = replace(record, source=replace(record.source, weights=tmp_path))
    views = replace(record, source=replace(record.source, views=3))
    for name, other, said in (
        ("linear", immunize_record(), "deep and linear are of different kinds"),
        ("weights", weights, f"and weights {tmp_path}"),
        ("views", views, "deep has views 1 and views 3"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write_record(folder, other)
        save_file({"theta": np.eye(FEATURES)}, folder / "theta.safetensors")
        assert cli.main(["attack", str(run), str(folder), "--out", str(tmp_path / "out")]) == 2
        assert said in capsys.readouterr().err
