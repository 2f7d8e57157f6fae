"""R_well lowers a condition number, R_ill raises it: values, closed-form gradients, directions, and safe steps.

    R_well(S) = 1/2 ||S||_2^2 - 1/(2p) ||S||_F^2                          (Nenov et al., 2024; p the smaller dimension)
    R_ill(S)  = 1 / ( 1/(2k) ||S||_F^2 - 1/2 sigma_k(S)^2 ),  k = rank(S)   (Zheng et al., 2025)

Everything here is one idea. For S = U diag(sigma) V^T both gradients share S's singular vectors:

    grad_S R = 1/2 U diag(c_i sigma_i) V^T,     c_i = 2 ([i = 1] - 1/p)                 for R_well  (Theorem 4.1's twin)
                                                c_i = 2 ([i = k] - 1/k) / (1/R_ill)^2   for R_ill   (Theorem 4.1)

and for H = theta^T K theta, with G = V diag(c_i sigma_i) V^T a function of H,

    grad_theta R = K theta G   (Theorem 4.2),       K^{-1} grad_theta R = theta G:

the preconditioner K^{-1} cancels exactly, so there is no inverse, no ridge, and a singular K does no harm. The step
theta' = theta (I - eta G) then moves each singular value of H by itself (`recurrence`):

    sigma_i' = sigma_i (1 - eta c_i sigma_i)^2.

The step bounds below are derived from that recurrence. They are not the ones printed in the paper: its bound for R_well
admits steps that send sigma_1 to zero, and its bound for R_ill mixes units (`tests/test_theorems.py` runs an instance
of each that the printed bound admits and that breaks).

Numerics:
  - Singular values closer together than rounding can tell are tied, and the indicator [i = 1] or [i = k] is shared
    evenly between them: a subgradient that does not depend on which basis the decomposition returned.
  - All non-zero singular values tied makes R_ill infinite. The denominator is then held at eps times its first term, so
    the value is large and finite, and the shared indicator makes the gradient zero, rather than NaN.
  - Zero singular values are left out of both indicators; k counts the others. For the zero matrix R_ill is the largest number
    and its gradient zero.
  - Nothing is squared or inverted in the units of S, but in its own (`scaling`): R_well goes with the square of S's scale,
    R_ill with its inverse square, the steps with its inverse and its cube. What then is too large a number is held at the
    largest. NaN stays NaN.
"""

from functools import partial

import jax
import jax.numpy as jnp

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import singular_values, svd
from cimm_jax.numerics.hessian import probe_hessian
from cimm_jax.numerics.inputs import as_matrix
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import VALUES, normalised, scaled, within_range
from cimm_jax.numerics.spectra import Eigen, TopPair, eigenpairs, numerical_rank, rounding_tolerance

__all__ = [
    "TIE_SIZE",
    "ill_coefficients",
    "ill_direction",
    "ill_gradient",
    "ill_rows",
    "ill_value",
    "r_ill",
    "r_well",
    "recurrence",
    "safe_step_ill",
    "safe_step_well",
    "well_coefficients",
    "well_direction",
    "well_direction_from_top",
    "well_gradient",
    "well_rows",
    "well_value",
]

TIE_SIZE = 64
"""Equal singular values come out up to 36 rounding units apart however small the matrix is (measured, sizes 2 to 300)."""


def r_well(s: jax.Array) -> jax.Array:
    """R_well(S), shape (...), for S of shape (..., m, n). Zero exactly where all p singular values are equal.

    Differentiable once, in either mode, by the closed form: sigma_1 u_1 v_1^T - S / p.

    Args:
      s: the matrix, as `inputs.as_array` takes it.

    Raises:
      InputError: if s is no matrix of real numbers, or has no entries.
    """
    return _r_well(as_matrix(s, "s", finite=False))


def r_ill(s: jax.Array, rank: int | None = None) -> jax.Array:
    """R_ill(S), shape (...), for S of shape (..., m, n).

    Differentiable once, in either mode, by the closed form: (sigma_k u_k v_k^T - S / k) / (1 / R_ill)^2.

    Args:
      s: the matrix, as `inputs.as_array` takes it.
      rank: k, if it is known, from 1 to the smaller of m and n; by default the number of singular values above rounding.

    Raises:
      InputError: if s is no matrix of real numbers or has no entries, or the rank is out of range.
    """
    s = as_matrix(s, "s", finite=False)
    if rank is not None and not 1 <= rank <= min(s.shape[-2:]):
        raise InputError(f"rank: needs 1 to {min(s.shape[-2:])} for s of shape {s.shape}, got {rank}")
    return _r_ill(s, rank)


@jax.custom_jvp
def _r_well(s):
    return well_value(singular_values(s))


@_r_well.defjvp
def _r_well_jvp(primals, tangents):
    (s,), (ds,) = primals, tangents
    u, sigma, vt = svd(s)
    return well_value(sigma), _pair(u, well_coefficients(sigma) * sigma / 2, vt, ds)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _r_ill(s, rank):
    return ill_value(singular_values(s), rank)


@_r_ill.defjvp
def _r_ill_jvp(rank, primals, tangents):
    (s,), (ds,) = primals, tangents
    u, sigma, vt = svd(s)
    return ill_value(sigma, rank), _pair(u, _ill_weights(sigma, rank) / 2, vt, ds)


def well_value(sigma: jax.Array, size: int | None = None) -> jax.Array:
    """R_well, shape (...), from singular values in descending order, shape (..., p).

    Args:
      sigma: all p singular values, or only the non-zero ones if `size` says what p is.
      size: p; by default the number of values given.
    """
    values, exponent = normalised(sigma, VALUES)
    return scaled((values[..., 0] ** 2 - (values**2).sum(-1) / (size or sigma.shape[-1])) / 2, 2 * exponent)


def ill_value(sigma: jax.Array, rank: int | None = None) -> jax.Array:
    """R_ill, shape (...), from singular values in descending order, shape (..., p)."""
    values, exponent = normalised(sigma, VALUES)
    value = scaled(1 / _ill_denominator(values, _kept(values, rank)), -2 * exponent)
    largest = float(jnp.finfo(sigma.dtype).max)
    return jnp.where(sigma[..., 0] == 0, largest, jnp.minimum(value, largest))


def well_coefficients(sigma: jax.Array, size: int | None = None) -> jax.Array:
    """The c_i of R_well, shape (..., p); arguments as in `well_value`."""
    return 2 * (_share(_ties(sigma, sigma[..., :1]), sigma.dtype) - 1 / (size or sigma.shape[-1]))


def ill_coefficients(sigma: jax.Array, rank: int | None = None) -> jax.Array:
    """The c_i of R_ill, shape (..., p), from singular values in descending order; zero where sigma_i is."""
    values, exponent = normalised(sigma, VALUES)
    return within_range(scaled(_own_ill_coefficients(values, rank), -4 * exponent[..., None]))


def well_direction(theta: jax.Array, eigen: Eigen) -> jax.Array:
    """K^{-1} grad_theta R_well(theta^T K theta) = theta G, shape (..., d, m), with K^{-1} cancelled.

    Args:
      theta: extractor, shape (..., d, m).
      eigen: of H = theta^T K theta: `eigenpairs(h)`, or `feature_eigenpairs(f)` for features f = X theta.
    """
    return _right_multiply(theta, eigen, well_coefficients(eigen.sigma, theta.shape[-1]) * eigen.sigma)


def well_direction_from_top(theta: jax.Array, h: jax.Array, top: TopPair) -> jax.Array:
    """`well_direction` from H and its largest eigenpair alone: 2 (sigma_1 theta v_1 v_1^T - theta H / m).

    Among tied largest eigenvalues it uses the one eigenvector that `top` holds.

    Args:
      theta: extractor, shape (d, m).
      h: theta^T K theta, shape (m, m).
      top: `largest_eigenpair(h)`.
    """
    falling = top.sigma * jnp.outer(product(theta, top.vector), top.vector)
    return 2 * (falling - product(theta, h) / theta.shape[-1])


def ill_direction(theta: jax.Array, eigen: Eigen, rank: int | None = None) -> jax.Array:
    """K^{-1} grad_theta R_ill(theta^T K theta) = theta G, shape (..., d, m); arguments as in `well_direction`."""
    values, exponent = normalised(eigen.sigma, VALUES)
    direction = _right_multiply(theta, eigen, _own_ill_coefficients(values, rank) * values)
    return within_range(scaled(direction, -3 * exponent[..., None, None]))


def well_rows(f: jax.Array) -> jax.Array:
    """R with K^{-1} grad_theta R_well = theta f^T R, for features f = X theta of fewer rows than columns.

    With f f^T = U diag(sigma) U^T, theta V diag(c_i sigma_i) V^T = theta f^T U diag(c_i) U^T f: the Hessian's eigenvectors V
    and everything else of shape (m, m) drop out. Zero eigenvalues need no care, since U^T f is zero where they are.

    Args:
      f: features, shape (..., B, m), as R.
    """
    units = normalised(f)
    eigen = eigenpairs(product(units.values, units.values.mT))
    return _combine_rows(f, eigen.vectors, well_coefficients(eigen.sigma, f.shape[-1]))


def ill_rows(f: jax.Array) -> jax.Array:
    """R with K^{-1} grad_theta R_ill = theta f^T R; see `well_rows`."""
    units = normalised(f)
    eigen = eigenpairs(product(units.values, units.values.mT))
    rows = _combine_rows(units.values, eigen.vectors, ill_coefficients(eigen.sigma))
    return within_range(scaled(rows, -7 * units.exponent[..., None, None]))  # c goes with the inverse eighth power of f


def well_gradient(theta: jax.Array, k: jax.Array) -> jax.Array:
    """grad_theta R_well(theta^T K theta) = 2 K theta (sigma_1 v_1 v_1^T - H / m), Theorem 4.2; shape (..., d, m)."""
    return product(k, well_direction(theta, eigenpairs(probe_hessian(theta, k))))


def ill_gradient(theta: jax.Array, k: jax.Array, rank: int | None = None) -> jax.Array:
    """grad_theta R_ill(theta^T K theta) = 2 K theta (sigma_k v_k v_k^T - H / k) R_ill^2, Theorem 4.2; (..., d, m)."""
    return product(k, ill_direction(theta, eigenpairs(probe_hessian(theta, k)), rank))


def recurrence(sigma: jax.Array, coefficients: jax.Array, step: jax.Array) -> jax.Array:
    """The singular values of H(theta - step * theta G), shape (..., p), in the order of `sigma`, not sorted again."""
    return sigma * (1 - step * coefficients * sigma) ** 2


def safe_step_well(sigma: jax.Array, size: int | None = None) -> jax.Array:
    """The largest eta below which every preconditioned R_well step lowers kappa(H); shape (...).

    With r = sigma_2 / sigma_1, sigma_2 the next value after those tied with sigma_1, t the number tied, and all values
    positive, kappa' < kappa for every 0 < eta < min of
        (sigma_1 - sqrt(sigma_2 sigma_k)) / (2 (sigma_1^2 (1/t - 1/p) + sigma_2 sqrt(sigma_2 sigma_k) / p)),
        p (1 - sqrt(r)) / (2 (sigma_2 sqrt(r) - sigma_k))      where that is positive,
    the first where sigma_1 falls so far that sigma_2' / sigma_1' reaches kappa, the second where sigma_2 outgrows
    sigma_k by it. Both are reached by the recurrence, so the bound cannot be widened. Zero if all values are equal.

    Args:
      sigma: singular values of H in descending order, shape (..., p); zeros are left out.
      size: p, if only the non-zero values are given.
    """
    p = size or sigma.shape[-1]
    sigma, exponent = normalised(sigma, VALUES)
    kept = _kept(sigma, None)
    tied = _ties(sigma, sigma[..., :1])
    first, last = sigma[..., 0], _smallest(sigma, kept)[..., 0]
    second = jnp.where(tied, 0, sigma).max(-1)
    geometric = jnp.sqrt(second * last)
    pull = _share(tied, sigma.dtype)[..., 0] - 1 / p
    falls = (first - geometric) / (2 * (first**2 * pull + second * geometric / p))
    root = jnp.sqrt(second / first)
    growth = second * root - last
    outgrows = jnp.where(growth > 0, p * (1 - root) / (2 * jnp.where(growth > 0, growth, 1)), jnp.inf)
    distinct = (kept & ~tied).any(-1)
    return jnp.where(distinct, scaled(jnp.minimum(falls, outgrows), -exponent), 0)


def safe_step_ill(sigma: jax.Array, rank: int | None = None) -> jax.Array:
    """The largest eta below which every preconditioned R_ill step raises kappa(H) and keeps its rank; shape (...).

    For eta < 1 / (2 sigma_k (1/t - 1/k) R_ill^2), t the number of values tied with sigma_k, sigma_k falls without
    reaching zero while every other value grows. At the bound sigma_k' = 0 and a rank is lost. Zero if all are equal.

    Args:
      sigma: singular values of H in descending order, shape (..., p).
      rank: k, if it is known.
    """
    sigma, exponent = normalised(sigma, VALUES)
    kept = _kept(sigma, rank)
    last = _smallest(sigma, kept)
    rate = (jnp.where(kept & _ties(sigma, last), _own_ill_coefficients(sigma, rank), 0) * last).max(-1)
    return scaled(jnp.where(rate > 0, 1 / jnp.where(rate > 0, rate, 1), 0), 3 * exponent)


def _own_ill_coefficients(sigma: jax.Array, rank: int | None) -> jax.Array:
    """The c_i of R_ill from singular values whose fourth power is a number."""
    kept = _kept(sigma, rank)
    lowest = kept & _ties(sigma, _smallest(sigma, kept))
    pull = _share(lowest, sigma.dtype) - _share(kept, sigma.dtype)
    return 2 * pull / _ill_denominator(sigma, kept)[..., None] ** 2


def _ill_weights(sigma: jax.Array, rank: int | None) -> jax.Array:
    """c_i sigma_i of R_ill, shape (..., p): a number also where c_i alone is too large to be one."""
    values, exponent = normalised(sigma, VALUES)
    return within_range(scaled(_own_ill_coefficients(values, rank) * values, -3 * exponent[..., None]))


def _right_multiply(theta: jax.Array, eigen: Eigen, weights: jax.Array) -> jax.Array:
    """Theta V diag(weights) V^T."""
    return product(product(theta, eigen.vectors) * weights[..., None, :], eigen.vectors.mT)


def _combine_rows(f: jax.Array, u: jax.Array, coefficients: jax.Array) -> jax.Array:
    """U diag(c) U^T f."""
    return product(product(u * coefficients[..., None, :], u.mT), f)


def _kept(sigma: jax.Array, rank: int | None) -> jax.Array:
    """Which values are not zero: the first `rank`, or those above rounding."""
    count = numerical_rank(sigma)[..., None] if rank is None else rank
    return jax.lax.broadcasted_iota(jnp.int32, sigma.shape, sigma.ndim - 1) < count


def _smallest(sigma: jax.Array, kept: jax.Array) -> jax.Array:
    return jnp.where(kept, sigma, sigma[..., :1]).min(-1, keepdims=True)


def _ties(sigma: jax.Array, value: jax.Array) -> jax.Array:
    return jnp.abs(sigma - value) <= rounding_tolerance(max(sigma.shape[-1], TIE_SIZE), sigma.dtype) * sigma[..., :1]


def _share(indicator: jax.Array, dtype) -> jax.Array:
    """1/t on the t values that are indicated and 0 elsewhere, along the last axis."""
    weights = indicator.astype(dtype)
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), 1)


def _ill_denominator(sigma: jax.Array, kept: jax.Array) -> jax.Array:
    mean_square = (_share(kept, sigma.dtype) * sigma**2).sum(-1)
    eps = float(jnp.finfo(sigma.dtype).eps)
    gap = jnp.maximum(mean_square - _smallest(sigma, kept)[..., 0] ** 2, eps * mean_square)
    return jnp.where(mean_square == 0, 1, gap) / 2


def _pair(u: jax.Array, weights: jax.Array, vt: jax.Array, ds: jax.Array) -> jax.Array:
    """<u diag(weights) vt, ds>, without forming the gradient when only its pairing with ds is asked for."""
    return (product(product(u.mT, ds), vt.mT).diagonal(axis1=-2, axis2=-1) * weights).sum(-1)
