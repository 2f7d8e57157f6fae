"""How much of a task's labels an attacker's best response explains, in closed form, so that a gradient goes through it.

With centred targets Y and the head's hat matrix, H = K (K + rho I)^{-1}, the fitted values are H Y, and

    share = sum_{i != j} H_ij <y_i, y_j> / sum_i |y_i|^2:

what the other rows say of each row's label. K are inner products of standardised features, then H Y is ridge regression, or a
Gaussian kernel. Without the diagonal, through which every row says its own label, labels that have nothing to do with the
features give 0 on average, however few rows there are: of 256 rows of a network defended already, heads fitted on one half
explained -0.5 to -0.1 of the other, which has no use as a gradient, and this 0.05 to 0.10 with a deviation of 0.01, while heads
fitted on 1,750 rows explained 0.07 to 0.35. No head explains more than 1.

Everything is pure and differentiable, of one batch.
"""

import jax
import jax.numpy as jnp

from cimm_jax.numerics.distances import squared_distances
from cimm_jax.numerics.products import product

__all__ = [
    "KERNEL_RIDGE",
    "LINEAR_RIDGE",
    "gaussian_kernel",
    "kernel_share",
    "linear_share",
    "standardised",
    "whitened",
]

LINEAR_RIDGE = 0.03
"""Times the rows; one more for each feature, or with more features than rows every row would say its own label alone."""

KERNEL_RIDGE = 0.3
"""Added to a kernel with ones on its diagonal."""

_WHITENING_RIDGE = 1e-2
"""Added to the covariance of standardised features: what hardly varies is read, and rounding is not."""

_SPREAD = 1e-3
"""Added to a feature's deviation: one that hardly varies is not blown up."""


def standardised(x: jax.Array) -> jax.Array:
    """Features of shape (B, d) at mean 0 and a deviation just below 1 over the batch; one that does not vary is 0."""
    centred = x - x.mean(0, keepdims=True)
    # The gradient of a root is infinite at zero.
    variance = jnp.square(centred).mean(0, keepdims=True)
    varies = variance > 0
    return centred / (jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0) + _SPREAD)


def linear_share(x: jax.Array, y: jax.Array, *, ridge: float = LINEAR_RIDGE, standardise: bool = True) -> jax.Array:
    """The share that ridge regression explains, a scalar.

    Args:
      x: features, shape (B, d).
      y: targets, shape (B, C).
      ridge: times the rows; the number of features is added.
      standardise: each feature; or else all by one number, so that what varies most is shrunk least.
    """
    x = standardised(x) if standardise else _in_one_scale(x)
    rows, width = x.shape
    added = ridge * rows + width
    if rows <= width:
        return _share(_hat(product(x, x.T), added), y)
    gram = product(x.T, x) + added * jnp.eye(width, dtype=x.dtype)
    return _share(product(x, _solve(gram, x.T)), y)


def _in_one_scale(x: jax.Array) -> jax.Array:
    """Centred, at a mean variance of 1."""
    centred = x - x.mean(0, keepdims=True)
    variance = jnp.square(centred).mean()
    return centred * jnp.where(variance > 0, jax.lax.rsqrt(jnp.where(variance > 0, variance, 1)), 0)


def kernel_share(
    x: jax.Array, y: jax.Array, *, width: float = 1.0, ridge: float = KERNEL_RIDGE, whiten: bool = False
) -> jax.Array:
    """The share that ridge regression on the kernel exp(-|a - b|^2 / (width d)) explains, a scalar.

    Args:
      x: features, shape (B, d).
      y: targets, shape (B, C).
      width: of the kernel, in features.
      ridge: added to the kernel.
      whiten: look at whitened features, or else at standardised ones.
    """
    return _share(_hat(gaussian_kernel((whitened if whiten else standardised)(x), width), ridge), y)


def whitened(x: jax.Array) -> jax.Array:
    """Features of shape (B, d) made uncorrelated, at a variance of up to 1, by the Cholesky factor of their covariance.

    Nothing but `_WHITENING_RIDGE` is left of how much directions vary, so that a head sees what others overlook in small ones.
    """
    x = standardised(x)
    covariance = product(x.T, x) / len(x) + _WHITENING_RIDGE * jnp.eye(x.shape[1], dtype=x.dtype)
    return jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(covariance), x.T, lower=True).T


def gaussian_kernel(x: jax.Array, width: float = 1.0) -> jax.Array:
    """exp(-|a - b|^2 / (width d)) of all pairs of rows, shape (B, B), of features of shape (B, d)."""
    return jnp.exp(-squared_distances(x, x) / (width * x.shape[1]))


def _hat(kernel: jax.Array, ridge: float) -> jax.Array:
    return _solve(kernel + ridge * jnp.eye(len(kernel), dtype=kernel.dtype), kernel)


def _share(hat: jax.Array, y: jax.Array) -> jax.Array:
    y = y - y.mean(0, keepdims=True)
    alike = product(y, y.T)
    energy = jnp.trace(alike)
    said_by_others = (hat * alike).sum() - (jnp.diagonal(hat) * jnp.diagonal(alike)).sum()
    return jnp.where(energy > 0, said_by_others / jnp.where(energy > 0, energy, 1), 0)


def _solve(gram: jax.Array, right: jax.Array) -> jax.Array:
    return jax.scipy.linalg.solve(gram, right, assume_a="pos")
