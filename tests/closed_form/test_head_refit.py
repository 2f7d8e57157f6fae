"""The head behind a singular map."""

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax import InputError
from cimm_jax.closed_form.head_refit import is_singular, refit

D, CLASSES = 6, 3

compiled = jax.jit(refit)


def fitted(*arrays, **settings):
    return jax.tree.map(np.asarray, refit(*arrays, **settings) if settings else compiled(*arrays))


@pytest.fixture
def x(rng):
    return prescribed.features(rng, prescribed.geometric(100, D) * 50, (50, D)) + 2


@pytest.fixture
def kernel(rng):
    return rng.standard_normal((D, CLASSES))


@pytest.fixture
def theta(rng):
    """Of rank 4."""
    return prescribed.matrix(rng, [3, 2, 1, 0.5, 0, 0])


def test_without_a_ridge_it_is_least_squares_with_an_intercept(x, kernel, theta):
    found = fitted(theta, kernel, x, ridge=0.0)
    outputs = x @ theta @ found.kernel + found.shift
    design = np.column_stack([x @ theta, np.ones(len(x))])
    np.testing.assert_allclose(outputs, design @ np.linalg.lstsq(design, x @ kernel, rcond=1e-10)[0], atol=1e-9)
    np.testing.assert_allclose(np.linalg.pinv(theta) @ theta @ found.kernel, found.kernel, atol=1e-9)


def test_an_invertible_map_is_undone_however_few_rows_there_are(x, kernel, rng):
    theta = prescribed.matrix(rng, prescribed.geometric(10, D))
    for rows in (3, 50):
        found = fitted(theta, kernel, x[:rows])
        np.testing.assert_allclose(theta @ found.kernel, kernel, atol=1e-9)
        np.testing.assert_allclose(found.shift, 0, atol=1e-9)


def test_the_ridge_stands_for_inputs_in_all_directions(x, kernel, theta):
    found = fitted(theta, kernel, x, ridge=0.3)
    centred = x - x.mean(0)
    k = centred.T @ centred / len(x)
    k = k + 0.3 * np.trace(k) / D * np.eye(D)
    m = np.linalg.cholesky(k).T
    expected = np.linalg.pinv(m @ theta, rcond=1e-10) @ m @ kernel
    np.testing.assert_allclose(found.kernel, expected, atol=1e-9)
    np.testing.assert_allclose(found.shift, x.mean(0) @ (kernel - theta @ expected), atol=1e-9)


def test_few_rows_get_a_ridge_and_do_better_with_it_on_others(rng, kernel, theta):
    few, others = (rng.standard_normal((rows, D)) for rows in (7, 500))

    def error(found):
        return np.mean((others @ theta @ found.kernel + found.shift - others @ kernel) ** 2)

    chosen, plain = fitted(theta, kernel, few), fitted(theta, kernel, few, ridge=0.0)
    assert chosen.ridge > 0.01
    assert error(chosen) < error(plain)


def test_scale_and_dtype(x, kernel, theta):
    plain, far = fitted(theta, kernel, x), fitted(theta, kernel, np.ldexp(x, 600))
    np.testing.assert_allclose(far.kernel, plain.kernel, atol=1e-12)
    single = fitted(*(jnp.asarray(array, jnp.float32) for array in (theta, kernel, x)))
    assert {field.dtype for field in single} == {jnp.dtype("float32")}
    np.testing.assert_allclose(theta @ single.kernel, theta @ plain.kernel, atol=1e-3)


def test_what_is_singular(rng, theta):
    assert is_singular(theta)
    assert is_singular(theta.astype(np.float32))
    assert not is_singular(prescribed.matrix(rng, prescribed.geometric(1e10, D)))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, np.ones((D, D + 1))[:, :2].T, r"kernel: has shape \(6, 3\), which does not fit 2 features"),
        (1, np.ones((D - 1, 2)), "kernel: has shape"),
        (2, np.ones((9, D + 1)), "x: has shape"),
        (1, np.full((D, 2), np.nan), "kernel: has NaN"),
    ],
)
def test_what_does_not_fit_is_refused(x, kernel, theta, place, value, message):
    given = [theta, kernel, x]
    given[place] = value
    with pytest.raises(InputError, match=message):
        refit(*given)
