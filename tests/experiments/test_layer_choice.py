"""Which layers are trained: rows of a ladder, made once; what surely holds, and the sentence that says so."""

import json

import numpy as np
import pytest
from sample_records import changed, ladder_record, renamed
from small_images import write_cifar

from cimm_jax.attacks import UNDEFENDED
from cimm_jax.attacks.ladder.by_rung import RANDOM_WEIGHTS
from cimm_jax.runs.defence import MapDefence
from cimm_jax.runs.network_subject import NetworkSubject
from experiments import layer_choice
from experiments.layer_choice import METHOD, TRAINED, best_by_rung, held, tabulated, verdict
from experiments.table3_deepnets import CONFIGURATIONS, source_of

RUNGS = ("gradients", "linear", "nonlinear", "layers")


@pytest.fixture
def climbed(monkeypatch):
    """Instead of ladders: the sample's; the seeds of those that were asked for."""
    asked = []

    def climb(manifest, subject, defences, settings, *, kept):
        assert len(subject.attackers_images) == 5  # one of each class
        asked.append((defences[0].theta, settings.seed, settings.rungs))
        return renamed(ladder_record(), "pencil", METHOD)

    monkeypatch.setattr(layer_choice, "climb", climb)
    monkeypatch.setattr(
        layer_choice, "_trained", lambda subject, settings, cut, seed: (MapDefence(METHOD, (cut, seed)), 2.5, 64)
    )
    return asked


def test_each_training_is_attacked_once_by_those_who_fine_tune_too_only_with_the_first_seed(
    tmp_path, climbed, monkeypatch, capsys
):
    halves = CONFIGURATIONS["resnet20_halves"]
    write_cifar(tmp_path, weights=halves.weights, images=halves.primary, count=40)
    monkeypatch.setattr(layer_choice, "CONFIGURATIONS", {"resnet20_mnist": halves})
    monkeypatch.setattr(layer_choice, "FEW", 1)
    arguments = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--image-rows", "40", "--seeds", "2"]
    arguments += ["--tuned-seeds", "1"]
    folder = layer_choice.main([*arguments, "--trained", "map", "last 2"])
    cuts = [(None, 0), ("layer3.1", 0), (None, 1), ("layer3.1", 1)]
    assert climbed == [(cut, cut[1], (0, 1, 2, 3, 4) if cut[1] == 0 else (0, 1, 2, 3)) for cut in cuts]
    results = json.loads((folder / "results.json").read_text())
    assert [row["network"] for row in results["table"]] == [UNDEFENDED, "map", "last 2", RANDOM_WEIGHTS]
    assert (folder / "layer_choice.png").stat().st_size > 1000
    assert "processor seconds" in capsys.readouterr().out
    layer_choice.main([*arguments, "--trained", "map", "last 2"])
    assert len(climbed) == 4, "they are finished"


def test_the_best_of_a_rung_is_taken_where_attackers_have_the_most_images():
    record = ladder_record()
    most = record.budgets[-1].images
    for images, counts in ((60, False), (most, True)):
        places = [
            n for n, one in enumerate(record.tried) if (one.network, one.images, one.rung) == ("pencil", images, 3)
        ]
        assert len(places) == 2
        better = changed(record, "tried", places[0], "by_seed", to=(0.97, 0.99))
        assert (best_by_rung(better, "pencil")["layers"] == 0.98) is counts


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion_everywhere")
def test_a_training_says_how_many_weights_it_moved_and_what_it_took(tmp_path, monkeypatch):
    halves = CONFIGURATIONS["resnet20_halves"]
    write_cifar(tmp_path, weights=halves.weights, images=halves.primary, count=60)
    monkeypatch.setattr(layer_choice, "MAP_STEPS", 2)
    source = source_of(halves, tmp_path, tmp_path, image_rows=60, reserved=0.5)
    subject = NetworkSubject(source, tmp_path / "cache")
    settings = layer_choice._settings(["--data-dir", str(tmp_path), "--steps", "1"])
    defences = {}
    for trained, weights in (("map", 64 * 64), ("last 1", 2 * (9 * 64 * 64 + 2 * 64) + 64 * 10 + 10)):
        defences[trained], seconds, found = layer_choice._trained(subject, settings, TRAINED[trained], 0)
        assert found == weights
        assert seconds > 0
    assert [defence.trained_from for defence in defences.values()] == [None, "layer3.2"]
    assert not np.allclose(defences["map"].theta, np.eye(64))


def rows(by_trained, seeds=3):
    """Accuracy of each rung alike: undefended 0.9, random weights 0.5, and what is given, a little more each seed."""
    return [
        {
            "trained": trained,
            "seed": seed,
            "seconds": seconds,
            "weights": 10,
            "primary": {UNDEFENDED: 0.92, METHOD: 0.92 - price, RANDOM_WEIGHTS: None},
            "accuracy": {
                name: dict.fromkeys(RUNGS, of + 0.01 * seed)
                for name, of in ((UNDEFENDED, 0.9), (METHOD, accuracy), (RANDOM_WEIGHTS, 0.5))
            },
        }
        for seed in range(seeds)
        for trained, (accuracy, seconds, price) in by_trained.items()
    ]


def test_what_is_below_random_weights_with_every_seed_surely_holds():
    table = tabulated(rows({"map": (0.6, 1.0, 0.0), "all": (0.3, 20.0, 0.01)}))
    assert [row["network"] for row in table] == [UNDEFENDED, "map", "all", RANDOM_WEIGHTS]
    _, of_map, of_all, _ = table
    np.testing.assert_allclose(of_all["accuracy"]["linear"], [0.3, 0.31, 0.32])
    np.testing.assert_allclose(of_all["above"]["linear"], -0.2)
    assert held(of_all, "layers")
    assert not held(of_map, "layers")
    told = verdict(table)
    assert "all is the least that holds linear heads (0.31) below random weights (0.51; undefended 0.91)" in told
    assert "20 times as long" in told
    assert "from 0.0 to 1.0 points" in told
    assert "nothing holds layers heads below the 0.51" in verdict(tabulated(rows({"map": (0.6, 1.0, 0.0)})))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trained", "last 4"], "argument --trained: invalid choice: 'last 4'"),
        (["--trained", "all", "all"], "argument --trained: all all names one twice; name each once"),
        (["--trained"], "argument --trained: expected at least one argument"),
        (["--seeds", "0"], "argument --seeds: needs at least 1, got 0"),
    ],
)
def test_what_cannot_be_trained_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        layer_choice.main(["--data-dir", "D", *arguments])
    assert message in capsys.readouterr().err
