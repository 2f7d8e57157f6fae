"""`cimm immunize --extractor residual`: an extractor behind own features, trained, attacked, shown, exported, refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands.network_runs import printed
from data.feature_examples import write_npz
from safetensors.numpy import load_file

import cimm_jax
from cimm_jax.attacks.fine_tuners import standard_fine_tuners
from cimm_jax.commands import cli
from cimm_jax.errors import InputError
from cimm_jax.methods import best_response
from cimm_jax.runs.attacking import read_defences
from cimm_jax.runs.immunizing import train_blocks, training_settings
from cimm_jax.runs.ladder_scene import open_scene
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord, LadderRecord
from cimm_jax.runs.run_folder import read_record_of
from cimm_jax.runs.subject import open_subject
from cimm_jax.views.loading import BEFORE_EXTRACTOR

pytestmark = pytest.mark.usefixtures("standard_promotion")

ROWS, FEATURES = 120, 6
TRAINING = ["--steps", "40", "--batch-size", "32", "--harmful-batch-size", "48"]


def task(classes: int, seed: int) -> dict[str, np.ndarray]:
    """Classes around means of their own, and a feature that never varies."""
    rng = np.random.default_rng(seed)
    labels = np.arange(ROWS) % classes
    x = rng.normal(size=(ROWS, FEATURES)) + 3 * rng.normal(size=(classes, FEATURES))[labels]
    x[:, -1] = 7
    return {"x": x.astype(np.float32), "y": labels}


TASKS = {"primary": task(3, 0), "harmful": task(2, 1)}


def words(folder: Path) -> list[str]:
    for name, arrays in TASKS.items():
        np.savez(folder / f"{name}.npz", x=arrays["x"], y=arrays["y"])
    return [word for name in TASKS for word in (f"--{name}", str(folder / f"{name}.npz"))]


def immunize(folder: Path, out: Path, *more: str) -> int:
    given = ["--method", "best_response", "--extractor", "residual", *TRAINING, *more]
    return cli.main(["immunize", *words(folder), *given, "--out", str(out)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extractor")
    (folder / "printed.txt").write_text(printed(immunize, folder, folder / "run", "--reserve", "0.3"))
    return folder


def protected(tensors: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """What the file's extractor gives, by its equation."""
    x = (x - tensors["input.mean"]) / tensors["input.deviation"]
    for block in ("blocks.0", "blocks.1"):
        hidden = np.maximum(x @ tensors[f"{block}.first.weight"].T + tensors[f"{block}.first.bias"], 0)
        x = x + hidden @ tensors[f"{block}.second.weight"].T + tensors[f"{block}.second.bias"]
    return x


def test_the_run_hides_the_blocked_labels_and_says_where_that_is_of_use(run):
    record = read_record_of(run / "run", ImmunizeRecord)
    assert (record.source.extractor, record.training.trained_from, record.training.steps) == ("residual", "block0", 40)
    assert record.network.of_rows
    assert record.rows["train"] == {"primary": 96, "harmful": 68}, "reserved and held-out rows are nobody's"
    explained = record.measures.parts["train"].explained
    assert explained.kernel.immunized < 0.7 * explained.kernel.undefended, "no linear map does that"
    assert record.kept["heldout"].accuracy_after > 0.8
    shown = (run / "printed.txt").read_text()
    assert BEFORE_EXTRACTOR in " ".join(shown.split())
    assert "best_response on own features, as an extractor behind them: keep primary.npz, block harmful.npz" in shown


def test_what_was_written_is_what_is_read_and_starts_as_the_identity(run):
    record = read_record_of(run / "run", ImmunizeRecord)
    subject = open_subject(record.source)
    (defence,) = read_defences({"run": record}, [run / "run"], subject)
    extraction = defence.extractions(subject)["heldout"]
    x = subject.images["harmful"].heldout
    plain = np.stack([x.pixels[row] for row in range(len(x))])
    tensors = load_file(run / "run" / "model.safetensors")
    standardised = (plain - tensors["input.mean"]) / tensors["input.deviation"]
    np.testing.assert_allclose(extraction.before.harmful.x, standardised, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(standardised[:, -1], 0, atol=1e-6, err_msg="what never varies says nothing")
    np.testing.assert_allclose(extraction.after.harmful.x, protected(tensors, plain), rtol=1e-4, atol=1e-4)
    assert np.abs(extraction.after.harmful.x - standardised).max() > 0.1


def test_the_same_training_makes_the_same_extractor(run, tmp_path):
    record = read_record_of(run / "run", ImmunizeRecord)
    subject, method = open_subject(record.source), best_response()
    settings = training_settings(method, subject, seed=0, steps=40, batch_rows=32, harmful_rows=48)
    defence, _, _ = train_blocks(subject, method, settings, name="best_response", folder=tmp_path / "checkpoint")
    defence.write(tmp_path, subject)
    found, again = (load_file(folder / "model.safetensors") for folder in (run / "run", tmp_path))
    assert found.keys() == again.keys()
    assert all(np.array_equal(found[key], again[key]) for key in found)


def test_it_is_attacked_shown_and_exported(run, tmp_path):
    quick = ["--attackers", "line_search", "--attack-steps", "20", "--harmful-only"]
    assert cli.main(["attack", str(run / "run"), *quick, "--out", str(tmp_path / "attack")]) == 0
    record = read_record_of(tmp_path / "attack", AttackRecord)
    assert record.extractors["run"].kind == "blocks"
    assert record.tasks["harmful"]["run"]["line_search"].accuracy is not None
    runs = [str(run / "run"), str(tmp_path / "attack")]
    assert cli.main(["report", *runs, "--out", str(tmp_path / "page")]) == 0
    assert BEFORE_EXTRACTOR in (tmp_path / "page/report.html").read_text()
    assert cli.main(["export", runs[0], "--attacks", runs[1], "--to", str(tmp_path / "hub")]) == 0
    assert (tmp_path / "hub/model.safetensors").read_bytes() == (run / "run/model.safetensors").read_bytes()
    config = json.loads((tmp_path / "hub/config.json").read_text())
    assert (config["architecture"], config["num_features"], config["num_classes"]) == ("residual extractor", 6, 3)
    card = (tmp_path / "hub/README.md").read_text()
    assert BEFORE_EXTRACTOR in card
    assert 'weights["input.mean"]' in card
    assert "tabular-classification" in card


def test_the_ladder_looks_before_the_extractor_and_into_it(run, tmp_path):
    record = read_record_of(run / "run", ImmunizeRecord)
    subject = open_subject(record.source, tmp_path)
    defences = read_defences({"run": record}, [run / "run"], subject)
    scene = open_scene(subject, defences, judged=20, seed=0)
    undefended, protected = scene.exposed
    assert (undefended.kind, protected.kind) == ("none", "blocks"), "random weights would be the identity"
    assert list(protected.places) == ["before the extractor", "block0", "features"]
    before, after = (one.places["before the extractor"][0].x for one in scene.exposed)
    np.testing.assert_array_equal(before, after, err_msg="an extractor changes nothing before itself")
    np.testing.assert_allclose(undefended.places["features"][0].x, before, atol=1e-6)
    assert (len(scene.labels), len(scene.judged), scene.own_images) == (28, 20, True)
    assert not scene.absent
    tuners = {one.name: one.cut for one in standard_fine_tuners(subject.network, classes=2).attackers}
    assert tuners["last block"] == "block1"
    assert any(name.startswith("all weights") for name in tuners)


@pytest.mark.slow
def test_the_whole_ladder(run, tmp_path):
    climbing = ["--ladder", "--seeds", "1", "--images-a-class", "5", "--tuning-steps", "2"]
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "ladder")]
    shown = printed(cli.main, ["attack", str(run / "run"), *climbing, *places])
    assert BEFORE_EXTRACTOR in " ".join(shown.split())
    ladder = read_record_of(tmp_path / "ladder", LadderRecord)
    assert {one.rung for one in ladder.tried} == {0, 1, 2, 3, 4}
    assert "before the extractor" in {one.place for one in ladder.tried if (one.network, one.rung) == ("run", 3)}
    assert cli.main(["report", str(tmp_path / "ladder"), "--out", str(tmp_path / "page")]) == 0
    assert BEFORE_EXTRACTOR in (tmp_path / "page/report.html").read_text()


def test_arrays_are_protected_in_python(run, tmp_path):
    arrays = [(TASKS[name]["x"], TASKS[name]["y"]) for name in ("primary", "harmful")]
    settings = {"method": "best_response", "extractor": "residual"}
    # As the command's, whose compiled programs then serve here too.
    made = cimm_jax.protect(*arrays, **settings, steps=40, batch_size=32, harmful_batch_size=48)
    made.save(tmp_path / "run")
    tensors = load_file(tmp_path / "run/model.safetensors")
    x = TASKS["harmful"]["x"].astype(np.float64)
    np.testing.assert_allclose(made.transform(x), protected(tensors, x), rtol=1e-4, atol=1e-4)
    assert made.theta is None
    assert read_record_of(tmp_path / "run", ImmunizeRecord).source.primary == tmp_path / "run/primary.npz"
    with pytest.raises(InputError, match=r"features: need shape \(rows, 6\)"):
        made.transform(x[:, 1:])
    with pytest.raises(InputError, match="extractor: a transformer makes a map"):
        cimm_jax.Immunizer(settings={"extractor": "residual"}).fit(*arrays[0], X_harmful=x, y_harmful=arrays[1][1])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            ["--method", "own.py:mine"],
            "--method: 'own.py:mine' trains no extractor, and makes maps only; choose one of",
        ),
        (["--target", "regression"], "--extractor: is trained on classes, and --target regression has amounts"),
        (["--harmful", "none.npz"], "harmful: none.npz has no labels, and an extractor is trained on them"),
        (["--harmful", "huge.npz"], "--harmful: has features too large for float32"),
        (["--harmful", "a.npz", "--harmful", "b.npz"], "--harmful-too: is a setting of own features"),
        (["--model", "resnet18"], "--extractor: is a setting of an extractor behind own features"),
        (["--step-length", "0.1"], "--step-length: is a setting of "),
        (
            ["--train-from", "block1"],
            "--train-from: is a setting of trained blocks (--train-from), not of an extractor",
        ),
        (["--harmful-batch-size", "3"], "--harmful-batch-size: needs at least 4, two rows of each of 2 classes, got 3"),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, given, told):
    monkeypatch.chdir(tmp_path)
    own = words(tmp_path)[: 2 if "--harmful" in given else 4]
    write_npz(Path("none.npz"), TASKS["harmful"]["x"], None)
    write_npz(Path("huge.npz"), TASKS["harmful"]["x"].astype(np.float64) * 1e300, TASKS["harmful"]["y"])
    mine = "def mine():\n    return methods.algorithm1()._replace(penalties=None)\n"
    Path("own.py").write_text(f"from cimm_jax import methods\n{mine}")
    given = [*own, "--extractor", "residual", "--method", "best_response", *given]
    assert cli.main(["immunize", *given, "--out", "out"]) == 2
    message = capsys.readouterr().err
    assert told in message.replace(f"{tmp_path}/", "")
    assert len(message.splitlines()) == 1
    assert not Path("out").exists()


def test_data_sets_have_no_extractor(tmp_path, capsys):
    assert cli.main(["immunize", "--extractor", "residual", "--out", str(tmp_path / "out")]) == 2
    assert "--extractor: is a setting of an extractor behind own features" in capsys.readouterr().err
