"""What the best head explains: nothing of what is not there, however few rows there are, and never more than there is."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from cimm_jax.closed_form.explained_share import (
    KERNEL_RIDGE,
    LINEAR_RIDGE,
    kernel_share,
    linear_share,
    standardised,
    whitened,
)

SHARES = [linear_share, kernel_share, partial(kernel_share, whiten=True)]
ROWS, D, CLASSES = 60, 8, 4


def one_hot(labels):
    return np.eye(CLASSES)[labels]


@pytest.fixture
def labels(rng):
    return rng.integers(CLASSES, size=ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
def test_labels_without_a_trace_explain_nothing_on_average(rng, labels, share):
    x = rng.normal(size=(ROWS, D))
    drawn = [float(share(x, one_hot(rng.permutation(labels)))) for _ in range(200)]
    # Centred labels sum to zero, so that each row's says at most 1/B of the others'.
    assert np.mean(drawn) == pytest.approx(0, abs=4 * np.std(drawn) / np.sqrt(len(drawn)) + 1 / ROWS)
    assert np.std(drawn) > 0


@pytest.mark.parametrize("share", SHARES)
def test_it_grows_with_the_signal_and_stays_below_one(rng, labels, share):
    noise, means = rng.normal(size=(ROWS, D)), rng.normal(size=(CLASSES, D))
    found = [float(share(noise + strength * means[labels], one_hot(labels))) for strength in (0, 0.5, 1, 2, 4)]
    assert found == sorted(found)
    assert found[-1] - found[0] > 0.3
    assert found[-1] < 1


def test_only_the_kernel_sees_what_second_moments_say(rng):
    labels = np.arange(400) % 2
    x = rng.normal(size=(400, 3)) * np.where(labels, 3.0, 0.3)[:, None]
    y = np.eye(2)[labels]
    assert abs(float(linear_share(x, y))) < 0.05
    assert float(kernel_share(x, y)) > 0.3


def test_whitened_features_are_uncorrelated_and_show_a_kernel_what_hardly_varies(rng):
    labels = np.arange(400) % 2
    loud = rng.normal(size=(400, 2)) @ rng.normal(size=(2, 6))  # six features in two directions, and little beside
    quiet = 0.03 * rng.normal(size=(400, 6)) + 0.2 * np.eye(1, 6) * (labels[:, None] - 0.5)
    x, y = jnp.asarray(loud + quiet), np.eye(2)[labels]
    apart = np.abs(np.corrcoef(np.asarray(whitened(x)).T) - np.eye(6)).max()
    assert apart < 0.5 < np.abs(np.corrcoef(np.asarray(x).T) - np.eye(6)).max()
    assert float(kernel_share(x, y, whiten=True)) > 0.15 + float(kernel_share(x, y))


def said_by_others(fitted_by, rows, y):
    """The definition row by row: what each row's fit owes to the labels of the others."""
    y = y - y.mean(0)
    total = 0.0
    for row in range(rows):
        others = y.copy()
        others[row] = 0
        total += fitted_by(others)[row] @ y[row]
    return total / np.sum(y**2)


def test_both_are_what_the_other_rows_labels_say_in_an_independent_implementation(rng, labels):
    x, y = rng.normal(size=(ROWS, D)) + np.eye(CLASSES, D)[labels], one_hot(labels)
    plain = np.asarray(standardised(jnp.asarray(x)))
    gram = plain.T @ plain + (LINEAR_RIDGE * ROWS + D) * np.eye(D)
    ridge = said_by_others(lambda targets: plain @ np.linalg.solve(gram, plain.T @ targets), ROWS, y)
    assert float(linear_share(x, y)) == pytest.approx(ridge, rel=1e-9)
    length = np.sqrt(0.7 * D / 2)  # exp(-|a - b|^2 / (2 length^2))
    kernel = RBF(length)(plain)
    machine = KernelRidge(alpha=KERNEL_RIDGE, kernel="precomputed")
    by_kernel = said_by_others(lambda targets: machine.fit(kernel, targets).predict(kernel), ROWS, y)
    assert float(kernel_share(x, y, width=0.7)) == pytest.approx(by_kernel, rel=1e-9)


def test_with_more_features_than_rows_it_is_the_same_ridge_and_still_sees_the_signal(rng, labels):
    x, y = rng.normal(size=(ROWS, 3 * ROWS)) + 2 * rng.normal(size=(CLASSES, 3 * ROWS))[labels], one_hot(labels)
    plain = np.asarray(standardised(jnp.asarray(x)))
    gram = plain.T @ plain + (LINEAR_RIDGE * ROWS + 3 * ROWS) * np.eye(3 * ROWS)
    expected = said_by_others(lambda targets: plain @ np.linalg.solve(gram, plain.T @ targets), ROWS, y)
    assert float(linear_share(x, y)) == pytest.approx(expected, rel=1e-9)
    assert expected > 0.3


@pytest.mark.parametrize("share", SHARES)
def test_neither_scale_nor_origin_matters_much(rng, labels, share):
    x, y = rng.normal(size=(ROWS, D)) + np.eye(CLASSES, D)[labels], one_hot(labels)
    assert float(share(7 * x - 3, y)) == pytest.approx(float(share(x, y)), rel=2e-2)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_is_that_of_differences(rng, labels, share, dtype):
    x, y = (rng.normal(size=(ROWS, D)) + np.eye(CLASSES, D)[labels]).astype(dtype), one_hot(labels).astype(dtype)
    gradient = jax.jit(jax.grad(share))(x, y)
    assert gradient.dtype == dtype
    direction = rng.normal(size=x.shape)
    step = 1e-5
    with jax.enable_x64(True):
        ahead, behind = (float(share(np.float64(x) + sign * step * direction, np.float64(y))) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    assert float(np.vdot(gradient, direction)) == pytest.approx(expected, rel=1e-3 if dtype == np.float32 else 1e-5)


@pytest.mark.parametrize("share", SHARES)
def test_nothing_to_explain_and_nothing_to_explain_it_with_are_zero_with_a_finite_gradient(rng, labels, share):
    x, y = jnp.asarray(rng.normal(size=(ROWS, D))), jnp.asarray(one_hot(labels))
    for features, targets in ((x, jnp.ones_like(y)), (jnp.ones_like(x), y), (x.at[:, 0].set(2), y)):
        value, gradient = jax.value_and_grad(share)(features, targets)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    assert float(share(x, jnp.ones_like(y))) == 0


def test_features_in_one_scale_weigh_as_they_vary(rng):
    """A signal in a feature that hardly varies is shrunk away, and one in the feature that varies most is read better."""
    y = np.sign(rng.standard_normal((60, 1)))
    x = rng.standard_normal((60, 40))
    x[:, :1] += 1.5 * y
    scales = np.ones(40)
    for scale, better in ((10.0, np.greater), (0.01, np.less)):
        scales[0] = scale
        unscaled, standard = (float(linear_share(x * scales, y, standardise=one)) for one in (False, True))
        assert better(unscaled, standard)
    assert float(linear_share(7 * x + 3, y, standardise=False)) == pytest.approx(
        float(linear_share(x, y, standardise=False)), rel=1e-6
    )
    assert float(linear_share(np.ones((6, 2)), np.arange(6.0)[:, None], standardise=False)) == 0
