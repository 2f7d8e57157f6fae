"""What a matrix's zeros say about its rank, whatever the arithmetic: a bound that no rounding error touches."""

import jax
import jax.numpy as jnp

__all__ = ["largest_possible_rank"]


@jax.jit
def largest_possible_rank(s: jax.Array) -> jax.Array:
    """The smaller number of rows and of columns that are not zero, int32, shape (...), for s of shape (..., m, n).

    A computed zero is a zero of the matrix where this bound is reached. Otherwise rounding may have made it: for a matrix of
    full rank with kappa beyond 1 / eps, LAPACK returns an exact 0 now and then.
    """
    # By its bits, since processors count numbers below the smallest normal one as zero.
    whole = jnp.uint32 if s.dtype == jnp.float32 else jnp.uint64
    present = (jax.lax.bitcast_convert_type(jax.lax.stop_gradient(s), whole) << 1) != 0  # without the sign
    rows, columns = (present.any(axis).sum(-1, dtype=jnp.int32) for axis in (-1, -2))
    return jnp.minimum(rows, columns)
