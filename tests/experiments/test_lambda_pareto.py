"""The sweep over both lambdas: what the grid trains, what is counted, the front, and the sentence."""

import json

import jax
import numpy as np
import pytest

from cimm_jax import methods
from cimm_jax.tasks import SplitPair, Task, TaskPair
from experiments import lambda_pareto as pareto
from experiments.lambda_pareto import by_ratio, cells, digits_apart, front, trained_on_grid, verdict


@pytest.fixture(autouse=True)
def standard_promotion(standard_promotion_everywhere):
    return standard_promotion_everywhere


def made_up(rng):
    def task():
        x = rng.standard_normal((12, 3)) * np.geomspace(1, 0.2, 3)
        return Task(x, rng.standard_normal((12, 2)))

    return SplitPair(TaskPair(task(), task()), TaskPair(task(), task()))


def test_the_grid_is_what_each_pair_of_factors_makes_alone(rng):
    tasks, method = [made_up(rng), made_up(rng)], methods.algorithm1()
    thetas, omegas = trained_on_grid(method, tasks, [3, 4], [(1.0, 1.0), (0.0, 0.0), (2.0, 0.5)], steps=4)
    assert thetas.shape == (2, 3, 3, 3)
    assert omegas.shape == (2, 3, 3, 2)
    alone = methods.immunize(method, tasks[1].train, key=jax.random.key(4), steps=4, record_every=4).theta
    np.testing.assert_allclose(thetas[1, 0], alone, rtol=1e-10)
    assert not np.allclose(thetas[:, 0], thetas[:, 1])
    assert not np.allclose(thetas[:, 0], thetas[:, 2])


def test_the_seed_draws_five_digits_and_the_others():
    one, same, other = (digits_apart(seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.train.primary.x, same.train.primary.x)
    assert not np.array_equal(one.train.primary.x, other.train.primary.x)
    assert one.train.primary.x.shape == one.train.harmful.x.shape == (600, 64)
    rows = {row.tobytes() for row in one.train.primary.x}
    assert rows.isdisjoint(row.tobytes() for row in one.train.harmful.x)
    np.testing.assert_allclose(one.train.primary.y.mean(0), 0, atol=1e-12)


def record(seed, factors, accuracy, rir, gradient, solved=0.8):
    figures = {"accuracy": accuracy, "rir": rir, "harmful": rir, "primary": 1.0, "gradient": gradient, "solved": solved}
    return {"seed": seed, "primary_factor": factors[0], "harmful_factor": factors[1], "broken": False, **figures}


@pytest.fixture
def found():
    """Without penalties, a cheap pair of lambdas, a dear one, and one that is worse in all."""
    return cells(
        [
            of
            for seed in range(3)
            for of in (
                record(seed, (0.0, 0.0), 0.9 + 0.01 * seed, 1.0, 0.8),
                record(seed, (1.0, 1.0), 0.89 + 0.01 * seed, 100.0, 0.7, 0.75),
                record(seed, (1.0, 9.0), 0.7 + 0.01 * seed, 1000.0, 0.3, 0.35),
                record(seed, (9.0, 1.0), 0.6 + 0.01 * seed, 10.0, 0.5, 0.5),
            )
        ]
    )


def test_what_is_lost_is_counted_seed_by_seed_from_training_without_penalties(found):
    assert [cell.lost.estimate for cell in found] == pytest.approx([0, 0.01, 0.2, 0.3])
    assert found[1].lost.high - found[1].lost.low == pytest.approx(0, abs=1e-12)
    assert found[1].rir.estimate == pytest.approx(2)
    assert [cell.hindered.estimate for cell in found] == pytest.approx([0, 0.05, 0.45, 0.3])


def test_nobody_on_the_front_is_beaten_in_both(found):
    assert [(cell.primary_factor, cell.harmful_factor) for cell in front(found)] == [(0, 0), (1, 1), (1, 9)]
    assert [cell.rir.estimate for cell in front(found, by_ratio)] == pytest.approx([0, 2, 3])


def test_seeds_that_broke_are_counted_and_left_out():
    whole = [record(seed, (0.0, 0.0), 0.9, 1.0, 0.8) for seed in range(2)]
    broken = {"seed": 0, "primary_factor": 1.0, "harmful_factor": 1.0, "broken": True}
    endless = record(1, (1.0, 1.0), 0.5, np.inf, 0.1)
    assert len(cells([*whole, broken, endless])) == 1, "nothing is left of it"
    assert cells([*whole, broken, record(1, (1.0, 1.0), 0.5, 2.0, 0.1)])[1].broken == 1


def test_the_sentence_names_the_best_that_costs_little(found):
    told = verdict("linear", found, 3)
    assert "1 of 3 pairs of lambdas lose less than 3 points" in told
    assert "largest RIR among them is 100" in told
    assert "lambda_P x1, lambda_H x1" in told
    assert "follows gradients 70" in told
    assert "more than 5.0 +- 0.0 points from the better of both" in told
    assert "no pair" in verdict("linear", [found[0], found[3]], 3)


def test_what_broke_with_a_seed_is_on_no_front_and_counted_in_the_sentence(found):
    broken = [found[0], found[1]._replace(broken=1), found[2]]
    assert front(broken) == [found[0], found[2]]
    told = verdict("resnet20", broken, 3)
    assert told.endswith("no pair of lambdas loses less than 3 points of the primary accuracy, 1 break with some seed.")
    told = verdict("resnet20", [*found, broken[1]], 3)
    assert "without penalties), 1 break with some seed; the largest" in told


@pytest.mark.slow
def test_linear_pairs_are_swept_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(pareto.FACTORS, pareto.LINEAR, (0.0, 1.0))
    for name, value in {"LINEAR_STEPS": 3, "ATTACK_STEPS": 5, "ATTACK_RATES": 2}.items():
        monkeypatch.setattr(pareto, name, value)
    arguments = ["--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--subjects", "linear", "--seeds", "2"]
    results = json.loads(pareto.main(arguments).read_text())
    assert len(results["linear"]["cells"]) == 4
    assert results["linear"]["cells"][0]["lost"]["estimate"] == 0
    assert results["linear"]["verdict"] in capsys.readouterr().out
    assert (tmp_path / "out/lambda_pareto.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(pareto, "trained_on_grid", lambda *_, **__: pytest.fail("trained again"))
    assert json.loads(pareto.main(arguments).read_text()) == results
