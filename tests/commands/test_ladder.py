"""`cimm attack --ladder` from end to end: maps and trained blocks of a small network, and data without one."""

from functools import cache

import numpy as np
import pytest
from commands.network_runs import immunize_blocks, immunize_map, printed

from cimm_jax.attacks.fine_tuners import FineTuners
from cimm_jax.attacks.fine_tuning import FineTuning
from cimm_jax.attacks.ladder import operators
from cimm_jax.attacks.ladder.rungs import RUNGS
from cimm_jax.commands import cli
from cimm_jax.runs import ladder, ladder_tuning
from cimm_jax.runs.records import DiagnoseRecord, LadderRecord
from cimm_jax.runs.run_folder import read_record_of

pytestmark = pytest.mark.usefixtures("standard_promotion", "small_network")

SMALL = {"--images-a-class": "6", "--seeds": "2", "--judged": "12", "--tuning-steps": "2"}
"""Six a class are all that attackers have: one budget, for which every program is compiled."""

TUNERS = (
    FineTuning("last block", "layer3.0", None, "adamw", "solved", (1e-3,), batch_size=4),
    FineTuning("all weights", None, None, "momentum", "new", (1e-3, 1e-2), batch_size=4),
)


@pytest.fixture(scope="module", autouse=True)
def pictures():
    """Drawn whole."""


@pytest.fixture(autouse=True, scope="module")
def few_fine_tuners_and_short_heads():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operators, "STEPS", 12)
        patch.setattr(operators, "RECORDS", (3, 6, 9, 12))
        patch.setattr(operators, "LATE", (3, 6, 12))
        patch.setattr(operators, "_operators", cache(operators._operators.__wrapped__))
        found = FineTuners(TUNERS, ("LoRA: no",))
        patch.setattr(ladder_tuning, "standard_fine_tuners", lambda network, *, classes: found)
        yield


def climb(inputs, out, *runs, **settings) -> int:
    given = {**SMALL, **{f"--{name.replace('_', '-')}": value for name, value in settings.items()}}
    words = [str(word) for pair in given.items() for word in pair]
    return cli.main(
        ["attack", *map(str, runs), "--ladder", *words, "--cache", str(inputs / "cache"), "--out", str(out)]
    )


@pytest.fixture(scope="module")
def run(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    for name, immunize in (("map", immunize_map), ("blocks", immunize_blocks)):
        printed(immunize, inputs, folder / name, "--reserve", "0.5", *(["--epochs", "1"] if name == "blocks" else []))
    shown = printed(climb, inputs, folder / "out", folder / "map", folder / "blocks")
    (folder / "printed.txt").write_text(shown)
    return folder


def test_a_map_and_trained_blocks_are_climbed_together(run):
    record = read_record_of(run / "out", LadderRecord)
    assert list(record.networks) == ["undefended", "map", "blocks", "random weights"]
    assert [of.kind for of in record.networks.values()] == ["none", "map", "blocks", "random"]
    assert [(of.a_class, of.images) for of in record.budgets] == [(None, 18)]
    assert record.absent == {"LoRA": "no"}
    assert (record.classes, record.judged.rows, record.own_images) == (3, 12, True)
    assert {one.rung for one in record.tried} == {rung.number for rung in RUNGS}
    assert list(record.rungs) == ["map", "blocks"]
    assert all(len(found) == len(RUNGS) + 1 for found in record.rungs.values())
    assert record.peak_bytes > 1e8
    accuracies = np.concatenate([one.accuracy for one in record.tried])
    assert ((accuracies >= 0) & (accuracies <= 1)).all()
    assert not (run / "out" / ladder.FOLDER).exists(), "what was kept on the way is removed at the end"
    assert (run / "out" / "ladder.png").stat().st_size > 1000


def test_a_map_changes_the_last_features_and_nothing_before_it_or_for_those_who_fine_tune(run):
    tried = read_record_of(run / "out", LadderRecord).tried
    found = {(one.network, one.rung, one.attacker, one.place, one.images): one.accuracy for one in tried}
    for (network, rung, attacker, place, images), accuracy in found.items():
        if network == "map" and rung in (3, 4) and "before the map" not in place:
            assert accuracy == found["undefended", rung, attacker, place, images]
    before = [key for key in found if key[0] == "map" and key[3] == "before the map"]
    assert len(before) == 6
    best = max((one for one in tried if one.rung == 4 and one.network == "undefended"), key=lambda one: one.best)
    assert len(best.by_seed) == 2, "the best goes on to the other draws"
    assert not any(one.diverged for one in tried if one.rung == 4)
    tuned = {network: {key[3] for key in found if key[:2] == (network, 4)} for network in ("random weights", "blocks")}
    assert tuned == {"random weights": {"all weights"}, "blocks": {"all weights", "from layer3.0"}}


def test_published_outputs_are_judged_of_all_but_random_weights(run):
    networks = read_record_of(run / "out", LadderRecord).networks
    for name, of in networks.items():
        assert list(of.outputs) == ([] if name == "random weights" else ["features", "logits", "softmax", "classes"])
        assert (of.primary is None) == (name == "random weights")


@pytest.mark.slow
def test_a_ladder_that_was_interrupted_goes_on_and_says_the_same(inputs, run, tmp_path, monkeypatch, capsys):
    made, fine_tune = [], ladder_tuning.fine_tune

    def interrupted(*arguments, **settings):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return fine_tune(*arguments, **settings)

    monkeypatch.setattr(ladder_tuning, "fine_tune", interrupted)
    assert climb(inputs, tmp_path / "out", run / "map", run / "blocks", rungs="4") == 130
    assert "not run again when the same command is given again" in capsys.readouterr().err
    kept = len(list((tmp_path / "out" / ladder.FOLDER).glob("*.json")))
    assert kept > 20

    def counted(*arguments, **settings):
        made.append(1)
        return fine_tune(*arguments, **settings)

    monkeypatch.setattr(ladder_tuning, "fine_tune", counted)
    features = []
    try_features = ladder.try_features
    monkeypatch.setattr(ladder, "try_features", lambda *a, **k: features.append(1) or try_features(*a, **k))
    assert climb(inputs, tmp_path / "out", run / "map", run / "blocks", rungs="4") == 0
    assert not features, "heads on outputs were finished"
    whole, resumed = (read_record_of(folder, LadderRecord) for folder in (run / "out", tmp_path / "out"))
    assert [one.by_seed for one in whole.tried if one.rung == 4] == [one.by_seed for one in resumed.tried]


@pytest.mark.slow
def test_a_network_trained_on_the_primary_task_alone_is_attacked_as_well(inputs, run, tmp_path, capsys):
    """Here it is the published one again: the same is found of it."""
    alone = inputs / "small.safetensors"
    assert climb(inputs, tmp_path / "out", run / "map", primary_alone=alone, rungs="1") == 0
    record = read_record_of(tmp_path / "out", LadderRecord)
    assert record.networks["primary alone"].kind == "alone"
    assert record.networks["primary alone"].primary == record.networks["undefended"].primary
    assert list(record.rungs) == ["map"], "it is no defence"
    found = {(one.network, one.attacker): one.accuracy for one in record.tried}
    assert all(found["primary alone", one] == found["undefended", one] for of, one in found if of == "undefended")
    assert "trained on the primary task alone" in capsys.readouterr().out
    assert climb(inputs, tmp_path / "out", run / "map", primary_alone=tmp_path / "none", rungs="1") == 2
    assert "--primary-alone: " in capsys.readouterr().err


@pytest.mark.slow
def test_attackers_may_have_the_defences_images_beside_their_own(inputs, run, tmp_path):
    words = ["attack", str(run / "map"), "--ladder", "--images-a-class", "6", "--seeds", "1", "--rungs", "2"]
    cache = ["--cache", str(inputs / "cache"), "--with-defences-images", "--out", str(tmp_path)]
    assert cli.main([*words, *cache]) == 0
    record = read_record_of(tmp_path, LadderRecord)
    assert [(of.a_class, of.images) for of in record.budgets] == [(6, 18), (None, 36)]
    assert not record.own_images


@pytest.mark.slow
def test_data_without_a_network_has_three_rungs_and_says_why(tmp_path):
    out, words = tmp_path / "out", ["--images-a-class", "5", "--seeds", "2", "--judged", "12", "--rungs", "2", "3", "4"]
    arguments = ["attack", "--data", "digits", "--methods", "pencil_signal", "--ladder", *words, "--out", str(out)]
    shown = printed(cli.main, arguments)
    assert "no network" in shown
    record = read_record_of(out, LadderRecord)
    assert list(record.absent) == ["layers", "fine-tuning", "gradients", "linear"]
    assert record.absent["linear"] == "it was left out"
    assert {one.rung for one in record.tried} == {2}
    assert record.budgets[0].images == 10
    assert not record.own_images
    assert (record.classes, record.network) == (2, None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"images_a_class": "99"}, "--images-a-class: needs at most 6, got 99"),
        ({"layers": "layer9.9"}, "layers: 'layer9.9' is unknown; choose among stem, layer1.0, layer2.0, layer3.0"),
        ({"rungs": "7"}, "rungs: 7 is unknown"),
        ({"judged": "1"}, "judged: needs at least 2 images, got 1"),
        ({"tuning_steps": "0"}, "steps: needs at least 1, got 0"),
        ({"rates": "3"}, "rates: is a setting of the sweep of linear probes, not of --ladder"),
    ],
)
def test_bad_input_is_told_in_one_line(inputs, run, tmp_path, capsys, settings, said):
    assert climb(inputs, tmp_path / "out", run / "map", **settings) == 2
    assert said in capsys.readouterr().err


def test_settings_of_the_ladder_need_it(run, capsys):
    assert cli.main(["attack", str(run / "map"), "--judged", "5"]) == 2
    assert "judged: is a setting of --ladder, not of the sweep of linear probes" in capsys.readouterr().err


def test_amounts_and_single_classes_cannot_be_climbed(tmp_path, capsys):
    arguments = ["attack", "--ladder", "--methods", "pencil", "--harmful", "3", "--out", str(tmp_path)]
    assert cli.main(arguments) == 2
    assert "is one class" in capsys.readouterr().err


@pytest.mark.slow
def test_diagnose_takes_a_network_and_says_what_its_outputs_give_away(inputs, tmp_path):
    paths = ["--primary", str(inputs / "primary"), "--harmful", str(inputs / "harmful")]
    model = ["--model", "small", "--weights", str(inputs / "small.safetensors"), "--cache", str(inputs / "cache")]
    shown = printed(cli.main, ["diagnose", *model, *paths, "--out", str(tmp_path)])
    assert "What the published outputs alone give an attacker" in shown
    record = read_record_of(tmp_path, DiagnoseRecord)
    assert list(record.outputs) == ["features", "logits", "softmax", "classes"]
    assert record.network is not None
    assert record.source.model == "small"


def test_blocks_without_their_weights_are_refused(inputs, run, tmp_path, capsys):
    without = tmp_path / "without"
    without.mkdir()
    (without / "results.json").write_text((run / "blocks" / "results.json").read_text())
    assert climb(inputs, tmp_path / "out", without) == 2
    assert "model.safetensors" in capsys.readouterr().err
