"""Covariances K = X^T X and probe Hessians H(theta) = theta^T K theta: dense, batched, streamed, sharded.

For the linear extractor f_theta(x) = x^T theta and an l2 loss on a linear probe w, the Hessian in w is theta^T K theta
(Section 2 of Zheng et al., 2025), with K uncentred and not divided by the number of rows. Products use the highest
precision of the device: the default of accelerators (bfloat16 or TF32 passes) would decide small eigenvalues by
rounding.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cimm_jax.errors import InputError
from cimm_jax.numerics.products import HIGHEST, product

__all__ = ["covariance", "probe_hessian", "streamed_covariance", "symmetric"]


def covariance(x: jax.Array) -> jax.Array:
    """K = x^T x, uncentred.

    Args:
      x: inputs, shape (..., N, d); leading axes are a batch. Sharded over rows, under `jit`, each device sums its own
        rows and one all-reduce adds them.

    Returns:
      Shape (..., d, d), exactly symmetric, of x's dtype.

    Raises:
      InputError: if x has fewer than two axes.
    """
    if np.ndim(x) < 2:
        raise InputError(f"x: needs shape (..., rows, features), got {np.shape(x)}; give a matrix of inputs")
    x = jnp.asarray(x)
    sharding = jax.typeof(x).sharding
    # A mesh of explicit axes, the default of `jax.make_mesh`, wants to be told that the sum goes to every device.
    summed = PartitionSpec(*sharding.spec[:-2], None, None)
    out = NamedSharding(sharding.mesh, summed) if sharding.mesh.are_all_axes_explicit else None
    return symmetric(jnp.matmul(x.mT, x, precision=HIGHEST, out_sharding=out))


def streamed_covariance(batches: Iterable[jax.Array]) -> jax.Array:
    """K = sum over batches of x^T x, for data that do not fit in memory at once.

    Args:
      batches: arrays of shape (N_i, d) with one common d; the N_i may differ.

    Returns:
      Shape (d, d), equal to the covariance of the concatenated batches up to rounding.

    Raises:
      InputError: if there is no batch, or a batch has another number of features than the first.
    """
    total = None
    for number, x in enumerate(batches):
        if total is not None and np.shape(x)[-1] != total.shape[-1]:
            raise InputError(
                f"batches: batch {number} has {np.shape(x)[-1]} features and the first {total.shape[-1]}; "
                "make them equal"
            )
        total = _jit_covariance(x) if total is None else _accumulate(total, x)
    if total is None:
        raise InputError("batches: is empty; give at least one batch")
    return total


def probe_hessian(theta: jax.Array, k: jax.Array) -> jax.Array:
    """H(theta) = theta^T K theta.

    Args:
      theta: extractor, shape (..., d, m).
      k: covariance, shape (..., d, d), symmetric.

    Returns:
      Shape (..., m, m), exactly symmetric.

    Raises:
      InputError: if the shapes do not match.
    """
    if np.ndim(theta) < 2 or np.ndim(k) < 2 or np.shape(k)[-1] != np.shape(k)[-2]:
        raise InputError(f"theta, k: need shapes (..., d, m) and (..., d, d), got {np.shape(theta)} and {np.shape(k)}")
    if np.shape(theta)[-2] != np.shape(k)[-1]:
        raise InputError(
            f"theta: has {np.shape(theta)[-2]} rows and k has {np.shape(k)[-1]}; "
            "both must be the number of input features"
        )
    return symmetric(product(theta.mT, product(k, theta)))


def symmetric(s: jax.Array) -> jax.Array:
    """(s + s^T) / 2, shape (..., d, d): removes what rounding adds to the antisymmetric part."""
    return (s + s.mT) / 2


_jit_covariance = jax.jit(covariance)


@jax.jit
def _accumulate(total: jax.Array, x: jax.Array) -> jax.Array:
    return total + covariance(x)
