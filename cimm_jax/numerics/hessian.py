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
from cimm_jax.numerics.inputs import as_array
from cimm_jax.numerics.meshes import is_spread
from cimm_jax.numerics.products import HIGHEST, product

__all__ = ["covariance", "probe_hessian", "streamed_covariance", "symmetric"]


def covariance(x: jax.Array) -> jax.Array:
    """K = x^T x, uncentred.

    Args:
      x: inputs, shape (..., N, d), as `inputs.as_array` takes them; leading axes are a batch. Sharded over rows, under `jit`,
        each device sums its own rows and one all-reduce adds them.

    Returns:
      Shape (..., d, d), exactly symmetric, of x's dtype; of pixels and other whole numbers, of float16 and of bfloat16 in the
      type that they are converted to, so that no sum wraps around.

    Raises:
      InputError: if x has fewer than two axes, or entries that are not real numbers.
    """
    x = as_array(x, "x", whole=False)
    if x.ndim < 2:
        raise InputError(f"x: needs shape (..., rows, features), got {x.shape}; give a matrix of inputs")
    return _covariance(x)


def streamed_covariance(batches: Iterable[jax.Array]) -> jax.Array:
    """K = sum over batches of x^T x, for data that do not fit in memory at once.

    Args:
      batches: arrays of shape (N_i, d) with one common d, as `inputs.as_array` takes them; the N_i may differ.

    Returns:
      Shape (d, d), equal to the covariance of the concatenated batches up to rounding; the widest of their dtypes.

    Raises:
      InputError: if there is no batch, or one is no matrix of real numbers or has another number of features than the first.
    """
    total = None
    for number, batch in enumerate(batches):
        x = as_array(batch, f"batches[{number}]", whole=False)
        if x.ndim != 2:
            raise InputError(f"batches[{number}]: needs shape (rows, features), got {x.shape}; give a matrix of inputs")
        if total is not None and x.shape[-1] != total.shape[-1]:
            raise InputError(
                f"batches[{number}]: has {x.shape[-1]} features and the first {total.shape[-1]}; make them equal"
            )
        total = _jit_covariance(x) if total is None else _accumulate(total, x)
    if total is None:
        raise InputError("batches: is empty; give at least one batch")
    return total


def probe_hessian(theta: jax.Array, k: jax.Array) -> jax.Array:
    """H(theta) = theta^T K theta.

    Args:
      theta: extractor, shape (..., d, m), as `inputs.as_array` takes it.
      k: covariance, shape (..., d, d), symmetric, of theta's dtype.

    Returns:
      Shape (..., m, m), exactly symmetric.

    Raises:
      InputError: if the shapes do not match, or an entry is no real number.
    """
    theta, k = as_array(theta, "theta"), as_array(k, "k")
    if theta.ndim < 2 or k.ndim < 2 or k.shape[-1] != k.shape[-2]:
        raise InputError(f"theta, k: need shapes (..., d, m) and (..., d, d), got {theta.shape} and {k.shape}")
    if theta.shape[-2] != k.shape[-1]:
        raise InputError(
            f"theta: has {theta.shape[-2]} rows and k has {k.shape[-1]}; both must be the number of input features"
        )
    return symmetric(product(theta.mT, product(k, theta)))


def symmetric(s: jax.Array) -> jax.Array:
    """(s + s^T) / 2, shape (..., d, d): removes what rounding adds to the antisymmetric part."""
    return (s + s.mT) / 2


def _covariance(x: jax.Array) -> jax.Array:
    sharding = jax.typeof(x).sharding
    # Explicit axes of a mesh, the default of `jax.make_mesh`, want to be told that the sum goes to every device.
    summed = PartitionSpec(*sharding.spec[:-2], None, None)
    out = NamedSharding(sharding.mesh, summed) if is_spread(x) else None
    return symmetric(jnp.matmul(x.mT, x, precision=HIGHEST, out_sharding=out))


_jit_covariance = jax.jit(_covariance)


@jax.jit
def _accumulate(total: jax.Array, x: jax.Array) -> jax.Array:
    dtype = np.promote_types(total.dtype, x.dtype)
    return total.astype(dtype) + _covariance(x).astype(dtype)
