"""Distances of all pairs of rows, by a product.

Differences of all pairs by broadcasting take (N, M, d), and their gradient crashes XLA on a CPU.
"""

import jax
import jax.numpy as jnp

from cimm_jax.numerics.products import product

__all__ = ["squared_distances"]


def squared_distances(a: jax.Array, b: jax.Array) -> jax.Array:
    """Of every row of a, shape (N, d), from every row of b, (M, d): shape (N, M), |a|^2 + |b|^2 - 2 a.b, never negative."""
    squares = jnp.sum(a**2, axis=1)[:, None] + jnp.sum(b**2, axis=1)[None, :]
    return jnp.maximum(squares - 2 * product(a, b.T), 0)
