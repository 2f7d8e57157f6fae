"""The loss of the best probe, against NumPy's least squares."""

import jax.numpy as jnp
import numpy as np
import pytest
from pairs import D, make_pair

from cimm_jax import Task
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
