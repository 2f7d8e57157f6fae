"""Proxies: how alike they are to the target, and how much of an attack they remove."""

import numpy as np
import prescribed
import pytest

from cimm_jax.attacks import UNDEFENDED
from cimm_jax.tasks import Task
from experiments import proxy_data
from experiments.intervals import half_width
from experiments.proxy_data import Proxy, predictors, shared_directions, tabulated


def labelled(rng, means, rows=400):
    """Rows around the mean of their class."""
    labels = rng.integers(0, len(means), rows)
    return Proxy(means[labels] + 0.1 * rng.standard_normal((rows, means.shape[1])), labels)


def test_label_directions_are_shared_as_far_as_the_spans_are(rng):
    axes = prescribed.orthonormal(rng, 6, 6)
    target = labelled(rng, np.stack([axes[0], -axes[0]]))
    same, other = labelled(rng, np.stack([3 * axes[0], -axes[0]])), labelled(rng, np.stack([axes[1], -axes[1]]))
    tasks = [proxy_data._task(of) for of in (same, other, target)]
    assert shared_directions(tasks[0], tasks[2]) > 0.9
    assert shared_directions(tasks[1], tasks[2]) < 0.1


def test_a_proxy_of_some_classes_has_targets_of_those_alone(rng):
    task = proxy_data._task(Proxy(rng.standard_normal((6, 2)), np.array([3, 7, 3, 7, 9, 9])))
    assert isinstance(task, Task)
    assert task.y.shape == (6, 3)


def test_moments_are_those_of_the_classes(rng):
    of = labelled(rng, 3 * np.eye(10, 12), 5000)
    drawn = proxy_data._drawn_from_moments(of, rng)
    for label in range(10):
        np.testing.assert_allclose(drawn.x[drawn.labels == label].mean(0), of.x[of.labels == label].mean(0), atol=0.05)
    assert not np.allclose(drawn.x, of.x)


def record(accuracy, likeness):
    defended = {
        f"{name}: {proxy}": {"linear": of, "nonlinear": of}
        for name in proxy_data.MAPS
        for proxy, of in accuracy.items()
    }
    return {
        "accuracy": {"20 a class": {UNDEFENDED: {"linear": 0.9, "nonlinear": 0.9}, **defended}},
        "likeness": {proxy: {"measure": of} for proxy, of in likeness.items()},
    }


def test_removed_is_the_share_above_guessing_over_seeds():
    records = [record({"near": 0.1 + 0.1 * seed, "far": 0.9}, {"near": 1.0, "far": 0.0}) for seed in range(3)]
    rows = {(row["map"], row["proxy"], row["heads"]): row for row in tabulated(records)}
    near, far = (rows["erase", proxy, "linear"] for proxy in ("near", "far"))
    assert near["removed"].estimate == pytest.approx(1 - 0.1 / 0.8)
    assert half_width(near["removed"]) == pytest.approx(4.303 * (0.1 / 0.8) / 3**0.5, rel=1e-3)
    assert far["removed"] == (0, 0, 0)
    assert predictors(records)["erase"]["measure"] > 0.8
