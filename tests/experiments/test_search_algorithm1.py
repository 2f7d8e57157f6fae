"""The search over settings of Algorithm 1, small, on made-up data of the right shape."""

import json

import numpy as np
import pytest

from cimm_jax.data.digit_images import DigitImages
from cimm_jax.tasks import SplitPair, Task, TaskPair
from experiments import measure
from experiments import search_algorithm1 as search


@pytest.fixture(autouse=True)
def small(rng, monkeypatch, standard_promotion_everywhere):
    def task(rows):
        x = rng.standard_normal((rows, 10)) * np.geomspace(1, 0.1, 10)
        return Task(x, x @ rng.standard_normal(10))

    split = SplitPair(TaskPair(task(20), task(20)), TaskPair(task(20), task(20)))
    # Of the same shapes, so that every program is compiled once.
    x = rng.standard_normal((400, 10)) @ rng.standard_normal((10, 10))
    images = DigitImages(x, np.repeat(np.arange(10), 40), x[::2] + 0.1, np.repeat(np.arange(10), 20))

    def quick(thetas, split, **settings):
        return measure.attacked(thetas, split, attackers=("line_search",), steps=20)

    monkeypatch.setattr(search, "load_pair", lambda *a, **k: split)
    monkeypatch.setattr(search, "load_digit_images", lambda *a, **k: images)
    monkeypatch.setattr(search, "attacked", quick)
    monkeypatch.setattr(search, "OPTIMIZERS", {"lars": (search.OPTIMIZERS["lars"][0], (1e-3, 1e-2))})
    monkeypatch.setattr(search, "HESSIANS", {"all rows": search.HESSIANS["all rows"]})
    for name, value in {"FACTORS": (1.0,), "FINALISTS": 1, "MNIST_PAIRS": ((0, 1),), "MNIST_ROWS": 20}.items():
        monkeypatch.setattr(search, name, value)


@pytest.mark.slow
def test_the_best_that_leaves_the_primary_task_alone_wins_and_the_search_resumes(tmp_path, capsys, monkeypatch):
    arguments = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--steps", "20", "--at-once", "1"]
    search.main(arguments)
    assert "three other seeds" in capsys.readouterr().out
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert [record["rate"] for record in results["searched"]] == [1e-3, 1e-2]
    default = results["again"][0]
    assert (default["rate"], default["seed"], default["steps"]) == (3e-3, 1, 20), "the default runs beside the best"
    best = max(results["searched"], key=lambda record: record["rir"] if record["primary"] <= 1 else 0)
    assert best["rate"] in {record["rate"] for record in results["again"]}
    assert {record["primary_digit"] for record in results["elsewhere"]} == {0}

    monkeypatch.setattr(search, "_theta", None)
    search.main(arguments)
    assert json.loads((tmp_path / "out/results.json").read_text()) == results, "nothing is run again"


def test_a_setting_that_harms_the_primary_task_or_diverges_does_not_win():
    good = {"finite": True, "primary": 0.9, "rir": 2.0}
    assert search._score(good) == pytest.approx(np.log(2))
    for bad in ({"primary": 1.1}, {"rir": np.nan}, {"finite": False}):
        assert search._score(good | bad) == -np.inf


def test_the_rate_and_the_factors_reach_the_step():
    pair = search.load_pair().train
    thetas = [
        np.asarray(search._theta(pair, {**search.DEFAULT, **changed}, 0, 5))
        for changed in ({}, {"rate": 1e-2}, {"primary_factor": 10.0}, {"harmful_factor": 10.0})
    ]
    for other in thetas[1:]:
        assert not np.allclose(thetas[0], other)
