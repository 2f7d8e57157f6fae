"""Covariances K = X^T X and probe Hessians H(theta) = theta^T K theta: dense, batched, streamed, sharded.

For the linear extractor f_theta(x) = x^T theta and an l2 loss on a linear probe w, the Hessian in w is theta^T K theta
(Section 2 of Zheng et al., 2025), with K uncentred and not divided by the number of rows. Products use the highest
precision of the device: the default of accelerators (bfloat16 or TF32 passes) would decide small eigenvalues by
rounding.
"""

from collections.abc import Iterable
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cimm_jax.errors import InputError
from cimm_jax.numerics.host_products import ROWS_AT_ONCE, add_products, as_host, mirrored, products, zeros
from cimm_jax.numerics.inputs import as_array, as_held
from cimm_jax.numerics.meshes import is_spread
from cimm_jax.numerics.products import HIGHEST, product
from cimm_jax.tasks import Array

__all__ = ["covariance", "probe_hessian", "streamed_covariance", "symmetric"]


def covariance(x: Array) -> jax.Array:
    """K = x^T x, uncentred.

    On the CPU, what is not traced is multiplied by BLAS where it lies (`host_products`), and on the device it comes from.

    Args:
      x: inputs, shape (..., N, d), as `inputs.as_array` takes them; leading axes are a batch. Sharded over rows, under `jit`,
        each device sums its own rows and one all-reduce adds them.

    Returns:
      Shape (..., d, d), exactly symmetric, of x's dtype; of pixels and other whole numbers, of float16 and of bfloat16 in the
      type that they are converted to, so that no sum wraps around.

    Raises:
      InputError: if x has fewer than two axes, or entries that are not real numbers.
    """
    held = as_held(x, "x")
    if held.ndim < 2:
        raise InputError(f"x: needs shape (..., rows, features), got {held.shape}; give a matrix of inputs")
    if (host := as_host(held)) is None:
        return _covariance(jnp.asarray(held))
    return _placed_as(held, products(host))


def streamed_covariance(batches: Iterable[Array]) -> jax.Array:
    """K = sum over batches of x^T x, for data that do not fit in memory at once.

    Batches in the host's memory are added up in float64: those of float64 without a product of their own, those of float32 as
    products in float32, whose errors are about 1e-7 of the largest entry however many batches there are. `CovarianceSum` is as
    exact as float64 for them, in twice the time; it can be merged, and stored on the way. Batches on other devices are added
    up there, in the widest of their dtypes.

    Args:
      batches: arrays of shape (N_i, d) with one common d, as `inputs.as_array` takes them; the N_i may differ.

    Returns:
      Shape (d, d), equal to the covariance of the concatenated batches up to rounding; the widest of their dtypes.

    Raises:
      InputError: if there is no batch, or one is no matrix of real numbers or has another number of features than the first.
    """
    features, dtype = None, np.dtype(np.float32)
    on_host = on_device = like = None
    for number, batch in enumerate(batches):
        x = as_held(batch, f"batches[{number}]")
        if x.ndim != 2:
            raise InputError(f"batches[{number}]: needs shape (rows, features), got {x.shape}; give a matrix of inputs")
        features = x.shape[1] if features is None else features
        if x.shape[1] != features:
            raise InputError(f"batches[{number}]: has {x.shape[1]} features and the first {features}; make them equal")
        dtype = np.promote_types(dtype, x.dtype)
        if (host := as_host(x)) is not None:
            if on_host is None:
                on_host, like = _HostSum(features), x
            on_host.add(host)
        else:
            on_device = _jit_covariance(x) if on_device is None else _accumulate(on_device, x)
    found = [] if on_device is None else [on_device.astype(dtype)]
    if on_host is not None and like is not None:
        found.append(_placed_as(like, on_host.whole(dtype)))
    if not found:
        raise InputError("batches: is empty; give at least one batch")
    return reduce(jnp.add, found)


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


class _HostSum:
    """x^T x of batches in the host's memory, added up in float64; of float32 rows, as products in float32 of a few thousand."""

    def __init__(self, features: int):
        self._total = zeros((features, features), np.dtype(np.float64))
        self._narrow, self._rows = None, 0

    def add(self, x: np.ndarray) -> None:
        """Of x of shape (N, d), float32 or float64."""
        if x.dtype == self._total.dtype:
            add_products(self._total, x)
            return
        for start in range(0, len(x), ROWS_AT_ONCE):
            part = x[start : start + ROWS_AT_ONCE]
            if self._narrow is None:
                self._narrow = np.zeros(self._total.shape, x.dtype)
            add_products(self._narrow, part)
            self._rows += len(part)
            if self._rows >= ROWS_AT_ONCE:
                self._widen()

    def whole(self, dtype: np.dtype) -> np.ndarray:
        """The sum, shape (d, d); nothing can be added after that."""
        self._widen()
        with np.errstate(over="ignore", invalid="ignore"):  # as infinite as JAX would make it
            return mirrored(self._total).astype(dtype, copy=False)

    def _widen(self) -> None:
        if self._narrow is not None:
            self._total += self._narrow
            self._narrow.fill(0)
            self._rows = 0


def _placed_as(like: np.ndarray | jax.Array, k: np.ndarray) -> jax.Array:
    """To JAX: on the device that somebody has put an array on, or the usual one."""
    return jax.device_put(k, like.sharding if isinstance(like, jax.Array) and like.committed else None)


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
