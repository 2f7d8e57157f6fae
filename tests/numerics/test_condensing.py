"""A task in few rows has the covariances of all rows."""

import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax.errors import InputError
from cimm_jax.numerics.condensing import condense
from cimm_jax.numerics.spectra import PseudoInverse, feature_condition_number
from cimm_jax.tasks import Task

N, D = 47, 6


def in_chunks(x, y=None, size=10):
    return [Task(x[at : at + size], None if y is None else y[at : at + size]) for at in range(0, len(x), size)]


@pytest.mark.parametrize("targets", [None, (), (3,)], ids=["none", "amounts", "classes"])
def test_covariances_are_those_of_all_rows(rng, targets):
    x = rng.normal(size=(N, D))
    y = None if targets is None else rng.normal(size=(N, *targets))
    (few, few_y), folds, rows = condense(in_chunks(x, y), folds=5)
    width = D if y is None else D + y.size // N
    assert (few.shape, rows) == ((width, D), N)
    np.testing.assert_allclose(few.T @ few, x.T @ x, rtol=1e-12, atol=1e-12)
    for fold, factor in enumerate(folds):
        np.testing.assert_allclose(factor.T @ factor, x[fold::5].T @ x[fold::5], rtol=1e-12, atol=1e-12)
    if y is None:
        assert few_y is None
        return
    assert few_y.shape == (width, *targets)
    np.testing.assert_allclose(few.T @ few_y, x.T @ y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose((few_y**2).sum(0), (y**2).sum(0), rtol=1e-12)


def test_a_large_condition_number_is_kept_which_a_square_would_lose(rng):
    sigma = prescribed.geometric(1e12, D)
    x = np.linalg.qr(rng.normal(size=(N, D)))[0] * sigma @ np.linalg.qr(rng.normal(size=(D, D)))[0]
    few = condense(in_chunks(x)).task.x
    kappa = feature_condition_number(few, PseudoInverse(rtol=1e-30)).kappa
    np.testing.assert_allclose(float(kappa), 1e24, rtol=1e-2)


def test_many_equal_columns_and_columns_of_zeros(rng):
    column = rng.normal(size=(N, 1))
    x = np.concatenate([np.repeat(column, 40, 1), np.zeros((N, 2))], axis=1)
    few = np.asarray(condense(in_chunks(x)).task.x)
    np.testing.assert_allclose(few.T @ few, x.T @ x, rtol=1e-12, atol=1e-12)


def test_chunks_that_do_not_fit_are_refused(rng):
    x = rng.normal(size=(N, D))
    with pytest.raises(InputError, match=r"^chunks: is empty"):
        condense([])
    for wrong in ([x[:10], x[:5], x[:10]], [x[:10], x[:20]], [x[:10], x[:10, :3]]):
        with pytest.raises(InputError, match=r"^chunks\[[12]\]: has shape"):
            condense([Task(jnp.asarray(chunk)) for chunk in wrong])
