"""Losses against their formulas, in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from cimm_jax import losses

CODED = 2 * np.eye(3)[[0, 2, 1, 1]] - 1


@pytest.fixture
def scores(rng):
    return 3 * rng.standard_normal((4, 3))


def test_squared_is_half_the_mean_squared_error(scores):
    np.testing.assert_allclose(losses.squared(scores, CODED), np.mean((scores - CODED) ** 2) / 2, rtol=1e-12)
    np.testing.assert_allclose(losses.squared(scores[:, 0], CODED[:, 0]), np.mean((scores - CODED)[:, 0] ** 2) / 2)


def test_logistic_takes_minus_and_plus_one_and_what_lies_between(scores):
    expected = np.mean(np.logaddexp(0, -CODED * scores))
    np.testing.assert_allclose(losses.logistic(scores, CODED), expected, rtol=1e-12)
    soft = np.mean(0.75 * np.logaddexp(0, -scores) + 0.25 * np.logaddexp(0, scores))
    np.testing.assert_allclose(losses.logistic(scores, np.full((4, 3), 0.5)), soft, rtol=1e-12)


def test_softmax_takes_plus_one_at_the_class(scores):
    expected = np.mean(logsumexp(scores, axis=1) - scores[np.arange(4), [0, 2, 1, 1]])
    np.testing.assert_allclose(losses.softmax(scores, CODED), expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [losses.squared, losses.logistic, losses.softmax])
def test_losses_are_scalars_of_their_arguments_dtype(scores, loss):
    for dtype in (jnp.float32, jnp.float64):
        value = loss(jnp.asarray(scores, dtype), jnp.asarray(CODED, dtype))
        assert (value.shape, value.dtype) == ((), dtype)
