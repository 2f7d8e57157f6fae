"""Theorems 4.1, 4.2 and 4.3 on 1,000 random instances each, R_well's counterparts, and two printed bounds that break.

Every condition number here is NumPy's, of the matrix that was actually stepped.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax.numerics.regularizers import (
    ill_direction,
    ill_gradient,
    r_ill,
    r_well,
    safe_step_ill,
    safe_step_well,
    well_direction,
    well_gradient,
)
from cimm_jax.numerics.spectra import eigenpairs

INSTANCES = 1000
FRACTIONS = [1e-3, 0.1, 0.5, 0.9, 0.999]
fractions = pytest.mark.parametrize("fraction", FRACTIONS)
# Rows, columns and rank of S.
FULL_RANK = [(2, 2, 2), (5, 5, 5), (8, 5, 5)]
matrices = pytest.mark.parametrize("shape", [*FULL_RANK, (5, 8, 3)], ids=str)


def random_matrices(rng, shape):
    rows, columns, rank = shape
    sigma = np.zeros((INSTANCES, min(rows, columns)))
    sigma[:, :rank] = prescribed.random_spectra(rng, INSTANCES, rank)
    return sigma[:, :rank], jnp.asarray(prescribed.matrix(rng, sigma, (rows, columns)))


gradient_of_r_well = jax.jit(jax.vmap(jax.grad(r_well)))
gradient_of_r_ill = jax.jit(jax.vmap(jax.grad(r_ill)))


def per_instance_error(value, reference):
    return np.linalg.norm(value - reference, axis=(-2, -1)) / np.linalg.norm(reference, axis=(-2, -1))


def naive_well(s):
    return jnp.linalg.svd(s, compute_uv=False)[0] ** 2 / 2 - (s**2).sum() / (2 * min(s.shape))


def naive_ill(s, rank):
    return 1 / ((s**2).sum() / (2 * rank) - jnp.linalg.svd(s, compute_uv=False)[rank - 1] ** 2 / 2)


# --- Theorem 4.1: R_ill as a function of S ---


@matrices
def test_theorem_4_1_r_ill_is_positive_and_bounds_the_condition_number_from_below(rng, shape):
    sigma, s = random_matrices(rng, shape)
    kappa = prescribed.kappa_of(s, shape[2])
    value = np.asarray(r_ill(s))
    assert (value >= 0).all()
    assert (value * sigma[:, 0] ** 2 * np.log(kappa) >= 1 - 1e-9).all()
    shrunk = s / (sigma[:, 0] * rng.uniform(1, 2, INSTANCES))[:, None, None]  # ||S||_2 <= 1
    assert (np.asarray(r_ill(shrunk)) * np.log(kappa) >= 1 - 1e-9).all()


@matrices
def test_theorem_4_1_gradient_of_r_ill_is_its_closed_form(rng, shape):
    _, s = random_matrices(rng, shape)
    reference = jax.jit(jax.vmap(jax.grad(partial(naive_ill, rank=shape[2]))))(s)
    assert per_instance_error(gradient_of_r_ill(s), reference).max() < 1e-9


@matrices
@fractions
def test_theorem_4_1_gradient_step_on_s_raises_kappa(rng, shape, fraction):
    _, s = random_matrices(rng, shape)
    rank = shape[2]
    eta = fraction * rank / (rank - 1) / np.asarray(r_ill(s)) ** 2
    stepped = s - eta[:, None, None] * np.asarray(gradient_of_r_ill(s))
    assert (prescribed.kappa_of(stepped, rank) > prescribed.kappa_of(s, rank)).all()


# --- its counterpart for R_well (Nenov et al., 2024) ---


@pytest.mark.parametrize("shape", FULL_RANK, ids=str)  # the bound divides by sigma_p
def test_r_well_is_positive_and_bounds_the_condition_number_from_above(rng, shape):
    sigma, s = random_matrices(rng, shape)
    value = np.asarray(r_well(s))
    assert (value >= 0).all()
    assert (np.log(prescribed.kappa_of(s)) <= (1 + 1e-9) * min(shape[:2]) * value / sigma[:, -1] ** 2).all()


@matrices
def test_gradient_of_r_well_is_its_closed_form(rng, shape):
    _, s = random_matrices(rng, shape)
    reference = jax.jit(jax.vmap(jax.grad(naive_well)))(s)
    assert per_instance_error(gradient_of_r_well(s), reference).max() < 1e-9


@matrices
@fractions
def test_gradient_step_on_s_of_r_well_lowers_kappa(rng, shape, fraction):
    sigma, s = random_matrices(rng, shape)
    p, rank = min(shape[:2]), shape[2]
    top, cross = sigma[:, 0] ** 2, sigma[:, 1] * sigma[:, -1]
    eta = fraction * (top - cross) / (top * (1 - 1 / p) + cross / p)
    stepped = s - eta[:, None, None] * np.asarray(gradient_of_r_well(s))
    assert (prescribed.kappa_of(stepped, rank) < prescribed.kappa_of(s, rank)).all()


# --- Theorem 4.2: gradients in theta ---

# Input features, width of theta, rank of K.
EXTRACTORS = [(2, 2, 2), (6, 6, 6), (6, 4, 6), (6, 6, 4)]
extractors = pytest.mark.parametrize("shape", EXTRACTORS, ids=str)


def random_extractors(rng, shape):
    features, width, rank = shape
    sigma = np.zeros((INSTANCES, features))
    sigma[:, :rank] = prescribed.random_spectra(rng, INSTANCES, rank, log_range=2.5)
    theta = prescribed.matrix(rng, prescribed.random_spectra(rng, INSTANCES, width, log_range=1.0), (features, width))
    return jnp.asarray(theta), jnp.asarray(prescribed.covariance(rng, sigma))


def hessian(theta, k):
    h = np.asarray(theta).mT @ np.asarray(k) @ np.asarray(theta)
    return (h + h.mT) / 2


@extractors
def test_theorem_4_2_gradients_in_theta_are_their_closed_forms(rng, shape):
    theta, k = random_extractors(rng, shape)
    rank = min(shape)

    def well(theta, k):
        return naive_well(theta.T @ k @ theta)

    def ill(theta, k):
        return naive_ill(theta.T @ k @ theta, rank)

    for gradient, reference in ((well_gradient, well), (ill_gradient, ill)):
        expected = jax.jit(jax.vmap(jax.grad(reference)))(theta, k)
        assert per_instance_error(jax.jit(gradient)(theta, k), expected).max() < 1e-9


# --- Theorem 4.3: preconditioned steps, up to the bounds derived here ---


@partial(jax.jit, static_argnames=("direction", "safe_step"))
def bound_and_direction(theta, h, direction, safe_step):
    eigen = eigenpairs(h)
    return safe_step(eigen.sigma), direction(theta, eigen)


def step(theta, k, direction, safe_step, fraction):
    """Kappa before and after a preconditioned step by a fraction of the bound, per instance."""
    h = hessian(theta, k)
    bound, towards = (np.asarray(value) for value in bound_and_direction(theta, h, direction, safe_step))
    assert (bound > 0).all()
    stepped = theta - (fraction * bound)[:, None, None] * towards
    rank = np.linalg.matrix_rank(h[0])
    return prescribed.kappa_of(h, rank), prescribed.kappa_of(hessian(stepped, k), rank)


@extractors
@fractions
def test_theorem_4_3_preconditioned_steps_move_kappa_their_way(rng, shape, fraction):
    theta, k = random_extractors(rng, shape)
    before, after = step(theta, k, well_direction, safe_step_well, fraction)
    assert (after < before).all()
    before, after = step(theta, k, ill_direction, safe_step_ill, fraction)
    assert (after > before).all()


@pytest.mark.parametrize("pattern", ["aabcde", "abcdee", "abbcde", "aaabcc", "aaaaab", "abbbbb"])
@pytest.mark.parametrize("fraction", [0.1, 0.999, 1.01])
def test_theorem_4_3_holds_where_values_repeat(rng, pattern, fraction):
    distinct = prescribed.random_spectra(rng, INSTANCES, 6)
    sigma = distinct[:, ["abcdef".index(letter) for letter in pattern]]
    theta, k = prescribed.orthonormal(rng, INSTANCES, 6, 6), prescribed.covariance(rng, sigma)
    before, after = step(theta, k, well_direction, safe_step_well, fraction)
    assert ((after < before) == (fraction < 1)).all()
    before, after = step(theta, k, ill_direction, safe_step_ill, fraction)
    assert (after > before).all()


@extractors
def test_the_bound_for_r_well_cannot_be_widened(rng, shape):
    theta, k = random_extractors(rng, shape)
    before, after = step(theta, k, well_direction, safe_step_well, 1.01)
    assert (after > before).all()
    before, after = step(theta, k, well_direction, safe_step_well, 1)
    np.testing.assert_allclose(after, before, rtol=1e-9)


@pytest.mark.parametrize("sigma", [[4.0, 1.0, 0.5], [4.0, 3.9, 0.5]], ids=["sigma_1 falls", "sigma_2 outgrows"])
def test_both_parts_of_the_bound_for_r_well_are_needed(rng, sigma):
    theta, k = np.eye(3)[None], prescribed.covariance(rng, [sigma])
    for fraction, improves in ((0.99, True), (1.01, False)):
        before, after = step(theta, k, well_direction, safe_step_well, fraction)
        assert (after < before).all() == improves


@extractors
def test_at_the_bound_for_r_ill_a_rank_is_lost(rng, shape):
    theta, k = random_extractors(rng, shape)
    before, after = step(theta, k, ill_direction, safe_step_ill, 1)
    assert (after > 1e8 * before).all()


def test_far_beyond_the_bound_for_r_ill_kappa_falls(rng):
    k = prescribed.covariance(rng, [[2.0] * 9 + [1.0]])
    before, after = step(np.eye(10)[None], k, ill_direction, safe_step_ill, 4)
    assert after < 0.7 * before


# --- the bounds as printed in the paper admit steps that break ---


def printed_bound_well(sigma):
    d, (first, second) = len(sigma), sigma[:2]
    return min(1 / ((1 - 1 / d) * first), (np.sqrt(first * second) - second) * d / (2 * second**2))


def printed_bound_ill(sigma):
    k, last = len(sigma), sigma[-1]
    return ((sigma**2).sum() / (2 * k) - last**2 / 2) ** 2 / (1 - 2 * last / k)


def kappa_after(rng, sigma, direction, eta):
    """Kappa(H) after one step from theta = I, whose H is a K with this spectrum."""
    k = jnp.asarray(prescribed.covariance(rng, sigma))
    theta = jnp.eye(len(sigma))
    return float(prescribed.kappa_of(hessian(theta - eta * direction(theta, eigenpairs(k)), k)))


def test_the_printed_bound_for_r_well_admits_a_step_that_raises_kappa(rng):
    sigma = np.array([4.0, 1.0, 1.0])
    sends_first_to_zero = 1 / (2 * (1 - 1 / 3) * 4)
    assert float(safe_step_well(jnp.asarray(sigma))) < sends_first_to_zero < printed_bound_well(sigma)
    assert kappa_after(rng, sigma, well_direction, sends_first_to_zero) > 1e12
    assert kappa_after(rng, sigma, well_direction, 0.95 * sends_first_to_zero) > 10 * 4


def test_the_printed_bound_for_r_ill_admits_a_step_that_lowers_kappa(rng):
    sigma = 1.55 * np.array([2.0] * 9 + [1.0])
    eta = 0.99 * printed_bound_ill(sigma)
    assert eta > 3 * float(safe_step_ill(jnp.asarray(sigma)))
    assert kappa_after(rng, sigma, ill_direction, eta) < 0.7 * 2


def test_the_printed_bound_for_r_ill_depends_on_the_unit_of_measurement():
    # eta c_i sigma_i is a plain number and c_i scales as R_ill^2, so as sigma^-4: a bound on eta must scale as sigma^3.
    sigma = np.array([3.0, 2.0, 1.0])
    small, large = safe_step_ill(jnp.asarray(sigma)), safe_step_ill(jnp.asarray(10 * sigma))
    assert float(large) == pytest.approx(1e3 * float(small))
    assert printed_bound_ill(sigma) > 0 > printed_bound_ill(10 * sigma)
