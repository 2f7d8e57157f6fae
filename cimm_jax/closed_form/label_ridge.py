"""The ridge with which linear heads of a task do best on rows that they have not seen.

With the centred inputs X = U S V^T and shrinkage h = s^2 / (s^2 + ridge), the head fitted without row i misses it by
residual_i / (1 - 1/N - sum_k h_k U_ik^2): one decomposition leaves out every row under every candidate.
"""

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.ridge import CANDIDATES
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.products import product

__all__ = ["choose_label_ridge"]


def choose_label_ridge(x: jax.Array, y: jax.Array) -> jax.Array:
    """The ridge of `ridge.CANDIDATES` with the least leave-one-out error, a scalar, relative to the mean eigenvalue. Pure.

    Args:
      x: centred inputs, shape (N, d).
      y: centred targets, shape (N, C), of the same dtype; of constant ones every ridge is as good, and the least is chosen.
    """
    u, sigma, _ = svd(x)
    squares = jnp.square(sigma)
    candidates = jnp.asarray(CANDIDATES, x.dtype)
    coefficients = product(u.T, y)
    least = len(y) * float(jnp.finfo(x.dtype).eps)

    def error(ridge: jax.Array) -> jax.Array:
        shifted = squares + ridge * squares.sum() / x.shape[1]
        shrinkage = squares / jnp.where(shifted > 0, shifted, 1)
        residual = y - product(u, shrinkage[:, None] * coefficients)
        free = 1 - 1 / len(y) - product(jnp.square(u), shrinkage)
        # A row that alone decides what is fitted to it says nothing of others.
        usable = free > least
        missed = jnp.sum(jnp.square(residual / jnp.where(usable, free, 1)[:, None]))
        return jnp.where(usable.all(), missed, jnp.inf)

    return candidates[jnp.argmin(jax.lax.map(error, candidates))]
