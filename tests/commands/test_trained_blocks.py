"""`cimm immunize --train-from`, then `cimm attack` and `cimm report` on its run, with a network small enough for tests."""

import json
import shutil

import jax
import numpy as np
import pytest
from commands.network_runs import CUT, immunize_blocks, immunize_map, printed
from flax import nnx
from networks.small_networks import NETWORK
from sample_records import changed

from cimm_jax.commands import cli
from cimm_jax.errors import InputError
from cimm_jax.networks import training
from cimm_jax.networks.weights import load_weights
from cimm_jax.numerics.spectra import PseudoInverse, feature_condition_number
from cimm_jax.runs.immunizing import GOES_ON
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.records import AttackRecord, ImmunizeRecord
from cimm_jax.runs.run_folder import read_record_of, write_record
from cimm_jax.runs.source import NetworkSource

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

TRAINING = ["--epochs", "3", "--batch-size", "12", "--strength", "1.5"]
QUICK = ["--attack-steps", "50", "--rates", "2", "--seeds", "1"]


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tail"
    shown = printed(immunize_blocks, inputs, folder, *TRAINING)
    (folder / "printed.txt").write_text(shown)
    return folder


@pytest.fixture(scope="module")
def map_run(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "map"
    printed(immunize_map, inputs, folder, "--budget", "1e3")
    return folder


@pytest.fixture(scope="module")
def subjects(inputs, run):
    """Both tasks under the published weights and under those that the run wrote, through the whole network."""
    paths = {task: str(inputs / task) for task in ("primary", "harmful")}
    files = (inputs / "small.safetensors", run / "model.safetensors")
    return [NetworkSubject(NetworkSource("small", file, **paths, strict=True), inputs / "cache") for file in files]


def test_the_exported_network_is_what_was_measured(run, subjects):
    before, after = subjects
    record = read_record_of(run, ImmunizeRecord)
    for task in ("primary", "harmful"):
        kappas = [
            float(feature_condition_number(getattr(subject.pairs()["train"], task).x, PseudoInverse()).kappa)
            for subject in subjects
        ]
        recorded = getattr(record.history, f"kappa_{task}")
        assert len(recorded) == 4, "before the first epoch and after each"
        assert [recorded[0], recorded[-1]] == pytest.approx(kappas, rel=1e-3)
        ratio = float(getattr(record.measures.parts["train"].ratios["PseudoInverse"], f"{task}_ratio"))
        assert ratio == pytest.approx(kappas[1] / kappas[0], rel=1e-3)
        assert abs(ratio - 1) > 1e-3, "training moved something"
    for part, kept in record.kept.items():
        for subject, accuracy in ((before, kept.accuracy_before), (after, kept.accuracy_after)):
            images = getattr(subject.published.primary, part)
            right = subject.head.logits(images.x).argmax(1) == images.labels
            assert accuracy == pytest.approx(right.mean())
    assert record.history.policy == "PseudoInverse"
    assert len(record.history.loss) == 3 * 3
    assert record.history.kappa_steps.tolist() == [0, 3, 6, 9]
    assert len(record.training.lambdas) == 2
    assert (record.training.trained_from, record.training.strength, record.training.epochs) == (CUT, 1.5, 3)
    assert record.measures.groups["ReleasedCode"].groups == 20
    assert all(part.share is None for part in record.measures.parts.values()), "no map leads to trained features"


def test_only_blocks_behind_the_cut_and_the_head_changed(inputs, run):
    before, after = (load_weights(NETWORK, file) for file in (inputs / "small.safetensors", run / "model.safetensors"))
    for name in before.cuts[:-1]:
        leaves = zip(*(jax.tree.leaves(nnx.state(network.parts[name])) for network in (before, after)), strict=True)
        assert all(np.array_equal(*pair) for pair in leaves) is (name != CUT)
    assert not np.array_equal(before.head.kernel[...], after.head.kernel[...])


def test_what_is_printed(run):
    shown = (run / "printed.txt").read_text()
    for expected in (
        "ReleasedCode",
        "groups of 36",
        "accuracy before",
        "Training rows:",
        "blocks trained from: layer3.0",
    ):
        assert expected in shown
    assert f"To be published: {run / 'model.safetensors'}" in shown
    assert (run / "immunize.png").read_bytes().startswith(b"\x89PNG")


def test_an_interrupted_run_continues_and_a_finished_one_is_not_trained_again(
    inputs, run, tmp_path, monkeypatch, capsys
):
    made = []
    train_tail = training.train_tail

    def watched(*settings, progress, **more):
        def told(steps):
            made.append(steps)
            if interrupted and steps == 7:
                raise KeyboardInterrupt
            progress(steps)

        return train_tail(*settings, progress=told, **more)

    monkeypatch.setattr(training, "train_tail", watched)
    interrupted = True
    assert immunize_blocks(inputs, tmp_path / "tail", *TRAINING) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"cimm: interrupted; {GOES_ON}"
    assert not (tmp_path / "tail" / "results.json").exists()
    interrupted, made = False, []
    assert immunize_blocks(inputs, tmp_path / "tail", *TRAINING, "--json") == 0
    assert json.loads(capsys.readouterr().out)["training"]["epochs"] == 3
    assert made == [7, 8, 9], "two epochs of three steps were saved"
    again, whole = (read_record_of(folder, ImmunizeRecord) for folder in (tmp_path / "tail", run))
    assert again.measures.parts["train"].verdict == whole.measures.parts["train"].verdict
    for one, other in zip(vars(again.history).values(), vars(whole.history).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    ratios = [record.measures.parts["train"].ratios["PseudoInverse"].rir for record in (again, whole)]
    assert ratios[0] == ratios[1]
    made = []
    assert immunize_blocks(inputs, tmp_path / "tail", *TRAINING) == 0
    assert made == []


@pytest.mark.slow
def test_attack_and_report_understand_the_run(inputs, run, tmp_path, capsys):
    attackers = ["--attackers", "line_search", "normal equations", "--cache", str(inputs / "cache")]
    assert cli.main(["attack", str(run), *attackers, *QUICK, "--out", str(tmp_path / "attack")]) == 0
    assert "blocks" not in capsys.readouterr().out.partition("Verdict")[0]
    record, immunized = read_record_of(tmp_path / "attack", AttackRecord), read_record_of(run, ImmunizeRecord)
    harmful = record.tasks["harmful"]
    assert list(harmful) == ["undefended", "tail"]
    assert record.extractors["tail"].kind == "blocks"
    assert harmful["undefended"]["normal equations"].accuracy.estimate > 0.9
    curves = immunized.measures.parts["train"].excess.harmful
    left = {name: outcomes["line_search"].left.estimate for name, outcomes in harmful.items()}
    assert left["tail"] != pytest.approx(left["undefended"], rel=1e-3)
    assert left["undefended"] == pytest.approx(curves.undefended[50], rel=0.05)
    assert left["tail"] == pytest.approx(curves.immunized[50], rel=0.05)
    assert cli.main(["report", str(run), str(tmp_path / "attack"), "--out", str(tmp_path / "report")]) == 0
    assert f"small trained from {CUT}" in (tmp_path / "report/report.html").read_text()


def test_a_map_and_trained_blocks_are_attacked_together(inputs, run, map_run, tmp_path, capsys):
    arguments = ["--attackers", "line_search", "normal equations", *QUICK, "--cache", str(inputs / "cache")]
    assert cli.main(["attack", str(map_run), str(run), *arguments, "--out", str(tmp_path)]) == 0
    assert "Of 2 immunized extractors" in capsys.readouterr().out
    record = read_record_of(tmp_path, AttackRecord)
    assert {name: of.kind for name, of in record.extractors.items()} == {
        "undefended": "none",
        "map": "map",
        "tail": "blocks",
    }
    for name, folder in (("map", map_run), ("tail", run)):
        curves = read_record_of(folder, ImmunizeRecord).measures.parts["train"].excess.harmful
        for who, curve in (("undefended", curves.undefended), (name, curves.immunized)):
            left = record.tasks["harmful"][who]["line_search"].left.estimate
            assert left == pytest.approx(curve[50], rel=0.05), (name, who)
    other_order = tmp_path / "other"
    assert cli.main(["attack", str(run), str(map_run), *arguments, "--harmful-only", "--out", str(other_order)]) == 0
    again = read_record_of(other_order, AttackRecord).tasks["harmful"]
    assert list(again) == ["undefended", "tail", "map"]
    for name, outcomes in again.items():
        left = outcomes["line_search"].left.estimate
        assert left == pytest.approx(record.tasks["harmful"][name]["line_search"].left.estimate, rel=1e-6)


@pytest.mark.parametrize(
    ("more", "settings", "named"),
    [
        ([], {"train_from": "layer9"}, "layer2.0, layer3.0"),
        ([], {"train_from": "features"}, "layer2.0, layer3.0"),
        (["--strength", "2"], {"method": "erase"}, "strength: is of balanced penalties"),
        (["--rank", "12"], {"method": "erase"}, "rank: 12 of 12 directions leaves nothing"),
        (["--batch-size", "999"], {}, "--batch-size: needs 1 to 36"),
        (["--batch-size", "0"], {}, "--batch-size"),
        (["--epochs", "0"], {}, "epochs: needs at least 1"),
        (["--strength", "0"], {}, "strength: needs a positive"),
        (["--strength", "2", "--lambda-harmful", "1"], {"method": "ill_only"}, "strength: is of balanced penalties"),
        (["--share", "2"], {"method": "encoderlock"}, "--share: needs a share above 0 and at most 1, got 2.0"),
        (["--shrink", "0.5"], {"method": "encoderlock"}, "--shrink: is no setting of encoderlock"),
        (["--noise", "-1"], {"method": "undo"}, "--noise: needs a finite number of at least 0"),
        (["--distillation", "0"], {"method": "undo"}, "--distillation: is what this method recovers by"),
        (["--steps", "1"], {"method": "undo"}, "--steps: needs some before the noise and some after it, got 1"),
        (["--label-smoothing", "1"], {}, "--label-smoothing: needs a number"),
        (["--learning-rate", "-1"], {}, "--learning-rate"),
        (["--lambda-harmful", "-1"], {}, "--lambda-harmful"),
        (["--lambda-primary", "1"], {"method": "imma"}, "--lambda-primary: is no setting of imma"),
        (
            ["--step-length", "7"],
            {},
            "--step-length: is a setting of data sets or own features (--primary FILE) or maps of a network (--model)",
        ),
        (["--resamples", "7"], {}, "resamples: needs at least 20"),
        (["--budget", "7"], {}, "--budget: is no setting of algorithm1"),
        (["--ridge", "0"], {}, "--ridge: is no setting of algorithm1"),
        (
            ["--hessian", "batch"],
            {},
            "hessian: is a setting of data sets or own features (--primary FILE) or maps of a network",
        ),
        (
            ["--step-length", "0.1"],
            {},
            "--step-length: is a setting of data sets or own features (--primary FILE) or maps of a network",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(inputs, tmp_path, capsys, more, settings, named):
    assert immunize_blocks(inputs, tmp_path / "out", *more, **settings) == 2
    captured = capsys.readouterr()
    assert named in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists(), "nothing was computed"


def test_methods_that_train_blocks_alone_are_refused_where_maps_are_made(inputs, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    said = "trains blocks of a network and makes no map; use cimm immunize --model ... --train-from"
    assert immunize_map(inputs, tmp_path / "out", method="ntl") == 2
    assert capsys.readouterr().err == f"cimm: --method: ntl {said}\n"
    for command, name in (("attack", "undo"), ("sweep", "encoderlock")):
        assert cli.main([command, "--methods", "erase", name, *out]) == 2
        assert capsys.readouterr().err == f"cimm: --methods: {name} {said}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_network_is_unlearned_noised_and_distilled(inputs, tmp_path):
    asked = ["--steps", "4", "--batch-size", "8", "--harmful-batch-size", "12", "--shrink", "0.3"]
    printed(immunize_blocks, inputs, tmp_path / "undo", "--method", "undo", *asked)
    record = read_record_of(tmp_path / "undo", ImmunizeRecord)
    assert (record.training.steps, record.training.lambdas) == (4, (1.0,))
    assert len(record.history.loss) == 4
    assert record.history.kappa_steps.tolist() == [0, 4]
    assert sorted(path.name for path in (tmp_path / "undo" / "checkpoint").iterdir() if path.is_dir()) == [
        "distilled",
        "unlearned",
    ]


def test_training_settings_need_a_cut_and_a_network(inputs, tmp_path, capsys):
    assert immunize_map(inputs, tmp_path, "--epochs", "2") == 2
    told = "epochs: is a setting of an extractor behind own features (--extractor) or trained blocks (--train-from)"
    assert f"{told}, not of maps of a network" in capsys.readouterr().err
    assert cli.main(["immunize", "--train-from", CUT, "--out", str(tmp_path)]) == 2
    assert "--train-from: is a setting of trained blocks (--train-from), not of data sets" in capsys.readouterr().err


def test_training_that_kills_the_features_says_so(inputs, tmp_path, capsys):
    quick = ["--learning-rate", "1e6", "--batch-size", "12", "--epochs", "1"]
    assert immunize_blocks(inputs, tmp_path, *quick) == 2
    assert "choose a smaller one" in capsys.readouterr().err


def test_attacks_refuse_blocks_trained_from_elsewhere_maps_to_undo_and_damaged_weights(
    inputs, run, map_run, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(NetworkSubject, "_outputs", lambda *_: pytest.fail("features were computed"))
    shutil.copytree(run, tmp_path / "deeper")
    record = read_record_of(run, ImmunizeRecord)
    write_record(tmp_path / "deeper", changed(record, "training", "trained_from", to="layer2.0"))
    shutil.copytree(run, tmp_path / "broken")
    (tmp_path / "broken/model.safetensors").write_bytes(b"")
    out = ["--cache", str(inputs / "cache"), "--out", str(tmp_path / "out")]
    for arguments, said in (
        ([run, tmp_path / "deeper"], "deeper was trained from layer2.0, others from layer3.0; attack them apart"),
        ([run, "--attackers", "undo the map + adam"], "trained blocks have none"),
        ([map_run, run, "--attackers", "undo the map + adam"], "trained blocks have none"),
        ([tmp_path / "broken"], "safetensors"),
    ):
        assert cli.main(["attack", *map(str, arguments), *out]) == 2
        captured = capsys.readouterr()
        assert said in captured.err
        assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_the_best_response_trains_by_its_own_recipe_but_for_what_is_given(inputs, tmp_path):
    asked = ["--steps", "3", "--batch-size", "8", "--harmful-batch-size", "12"]
    shown = printed(immunize_blocks, inputs, tmp_path / "response", "--method", "best_response", *asked)
    record = read_record_of(tmp_path / "response", ImmunizeRecord)
    training_ = record.training
    assert (training_.steps, training_.batch_rows, training_.harmful_rows, training_.in_pairs) == (3, 8, 12, True)
    assert (training_.learning_rate, training_.distillation, training_.lambdas) == (0.01, 8.0, (30.0,))
    assert len(record.history.loss) == 3
    assert "harmful rows in a step" in shown


def test_fewer_rows_of_a_class_than_two_are_refused_before_anything_is_trained(inputs, tmp_path, capsys):
    status = immunize_blocks(inputs, tmp_path, "--harmful-batch-size", "3", method="best_response")
    assert status == 2
    assert "--harmful-batch-size: needs at least 6, two rows of each of 3 classes, got 3" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["erase", "pencil"])
def test_blocks_are_trained_to_give_features_behind_a_closed_form(inputs, tmp_path, capsys, monkeypatch, method):
    given = []

    def watched(parts, *_, **settings):
        given.append((parts, settings))
        raise InputError("stopped: before training")

    monkeypatch.setattr(training, "train_tail", watched)
    assert immunize_blocks(inputs, tmp_path, method=method) == 2
    assert "stopped" in capsys.readouterr().err
    ((parts, found),) = given
    primary, harmful = found["targets"]
    assert primary.shape[1] == harmful.shape[1] == 12
    heads = zip(jax.tree.leaves(found["start"][1]), jax.tree.leaves(parts.head), strict=True)
    assert not any(np.allclose(begun, published) for begun, published in heads), "a head of its own"
    assert min(primary.min(), harmful.min()) >= 0
    varying = sum(np.concatenate(found["targets"]).std(0) > 1e-6)
    assert varying < 6 if method == "erase" else varying > 6
    assert [penalty.weight for penalty in found["penalties"]] == [1.0]
    assert (found["settings"].steps, found["settings"].distillation) == (400, 8.0)


@pytest.mark.slow
def test_blocks_that_learned_a_closed_form_are_published_without_a_map(inputs, tmp_path):
    asked = ["--method", "erase", "--keep", "outputs", "--steps", "2", "--batch-size", "8", "--harmful-batch-size", "8"]
    printed(immunize_blocks, inputs, tmp_path / "eraser", *asked)
    record = read_record_of(tmp_path / "eraser", ImmunizeRecord)
    assert (record.training.trained_from, record.training.steps, record.training.distillation) == (CUT, 2, 8.0)
    assert not record.training.in_pairs
    assert record.training.lambdas == (1.0,)
    assert {path.name for path in (tmp_path / "eraser").glob("*.safetensors")} == {"model.safetensors"}


def test_a_method_that_makes_maps_step_by_step_trains_no_blocks(inputs, tmp_path, capsys):
    own = tmp_path / "own.py"
    own.write_text(
        "from cimm_jax import methods\ndef mine():\n    return methods.algorithm1()._replace(penalties=None)\n"
    )
    assert immunize_blocks(inputs, tmp_path / "out", method=f"{own}:mine") == 2
    assert "trains no blocks of a network; choose one of algorithm1, ill_only, opt_kappa, imma, pencil" in (
        capsys.readouterr().err
    )
