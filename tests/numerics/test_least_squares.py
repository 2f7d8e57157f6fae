"""The loss of the best probe, against NumPy's least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import D, make_pair

from cimm_jax import InputError, Task
from cimm_jax.numerics.least_squares import probe_loss
from cimm_jax.numerics.spectra import product_amplification


@pytest.mark.parametrize("classes", [None, 3])
def test_probe_loss_is_that_of_least_squares_also_on_other_rows(classes):
    fit, other = make_pair(0, classes=classes).primary, make_pair(1, rows=55, classes=classes).primary
    w = np.linalg.lstsq(np.asarray(fit.x), np.asarray(fit.y), rcond=None)[0]
    np.testing.assert_allclose(probe_loss(fit, other), np.mean((other.x @ w - other.y) ** 2), rtol=1e-9)


def test_fewer_rows_than_features_are_fitted_by_the_shortest_probe():
    fit, other = make_pair(0, rows=D - 2).primary, make_pair(1).primary
    w = np.linalg.pinv(np.asarray(fit.x)) @ np.asarray(fit.y)
    np.testing.assert_allclose(probe_loss(fit, fit), 0, atol=1e-20)
    np.testing.assert_allclose(probe_loss(fit, other), np.mean((other.x @ w - other.y) ** 2), rtol=1e-9)


@pytest.mark.parametrize(
    ("dtype", "power"), [(np.float32, -110), (np.float32, 100), (np.float64, -1000), (np.float64, 900)]
)
def test_features_of_any_scale_leave_the_same_error(dtype, power):
    fit, other = (jax.tree.map(lambda leaf: leaf.astype(dtype), make_pair(seed).primary) for seed in (0, 1))
    expected = probe_loss(fit, other)
    for of_targets in (0, 50):
        moved = [Task(jnp.ldexp(task.x, power), jnp.ldexp(task.y, of_targets)) for task in (fit, other)]
        np.testing.assert_allclose(probe_loss(*moved), jnp.ldexp(expected, 2 * of_targets), rtol=1e-4)


def test_the_error_is_differentiable():
    fit, other = make_pair(0).primary, make_pair(1).primary
    direction = jnp.asarray(np.random.default_rng(0).standard_normal(fit.x.shape))

    def loss(x):
        return probe_loss(Task(x, fit.y), other)

    difference = (loss(fit.x + 1e-6 * direction) - loss(fit.x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(fit.x), direction), difference, rtol=1e-5)


@pytest.mark.parametrize(
    ("fit_on", "judged_on", "message"),
    [
        (Task(np.eye(2)), Task(np.eye(2), np.ones(2)), r"^fit_on\.y: is None"),
        (Task(np.eye(2), np.ones(2)), Task(np.eye(3), np.ones(3)), r"^judged_on: has inputs \(3, 3\)"),
        (Task(np.eye(2), np.ones(3)), Task(np.eye(2), np.ones(2)), r"^fit_on: needs inputs"),
        (Task(np.ones((0, 2)), np.ones(0)), Task(np.eye(2), np.ones(2)), r"^fit_on: needs inputs"),
    ],
)
def test_tasks_that_do_not_match_are_named(fit_on, judged_on, message):
    with pytest.raises(InputError, match=message):
        probe_loss(fit_on, judged_on)


def test_rounding_errors_that_a_map_blows_up_are_not_fitted(rng):
    """The task lacks a direction, and the map makes it a hundred million times as prominent as the others."""
    basis = np.linalg.qr(rng.standard_normal((D, D)))[0]
    x, y = make_pair().primary
    x = jnp.asarray(np.asarray(x) @ (basis * np.r_[0, np.ones(D - 1)]) @ basis.T)
    theta = jnp.asarray(basis * np.r_[1e8, np.ones(D - 1)])
    mapped = Task(x @ theta, y)
    least = probe_loss(Task(x, y), Task(x, y))
    assert probe_loss(mapped, mapped) < 0.999 * least
    np.testing.assert_allclose(probe_loss(mapped, mapped, product_amplification(x, theta, mapped.x)), least, rtol=1e-9)
