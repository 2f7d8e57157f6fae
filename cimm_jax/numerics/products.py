"""Matrix products in full precision: the default of accelerators (bfloat16 or TF32 passes) would decide small eigenvalues."""

import jax
import jax.numpy as jnp

__all__ = ["HIGHEST", "product"]

HIGHEST = jax.lax.Precision.HIGHEST


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """A @ b at the highest precision of the device; shapes as in `jnp.matmul`."""
    return jnp.matmul(a, b, precision=HIGHEST)
