"""Matrices of many rows that are spread over devices, as few rows with the same covariance: a tree of QR decompositions.

With X cut by rows into X_1, ..., X_p, one on a device, and F_i^T F_i = X_i^T X_i each found where X_i is,

    F^T F = [F_1; ...; F_p]^T [F_1; ...; F_p] = X^T X,

(Demmel et al., 2012). No square is formed, so F has the singular values of X to all digits, and p d^2 numbers travel instead of
N d. The decompositions of the first level wait for nothing; that of the second runs on one device. Rows of zeros, with which
rows that do not divide among the devices are filled up (`meshes.spread_rows`), change nothing.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cimm_jax.numerics.decompositions import gram_factor, right_svd
from cimm_jax.numerics.meshes import axes_of_rows, on_one_device
from cimm_jax.numerics.scaling import normalised, scaled
from cimm_jax.numerics.threads import one_blas_thread
from cimm_jax.tasks import Array, Task, TaskPair

__all__ = ["dealt_factors", "few_rows", "inputs_in_few_rows", "is_tall"]


def is_tall(x: Array) -> bool:
    """Whether it is a concrete matrix, spread by rows alone, with at least as many of them on each device as columns."""
    if not isinstance(x, jax.Array) or x.ndim != 2 or x.dtype not in (jnp.float32, jnp.float64):
        return False
    return bool(axes_of_rows(x)) and x.sharding.shard_shape(x.shape)[0] >= x.shape[1] > 0


def few_rows(x: Array) -> Array:
    """F of shape (d, d) on one device, F^T F = x^T x, of a matrix of shape (N, d) that `is_tall`; others stay as they are.

    F has the singular values of x, and the zeros that say what rank is possible (`structure.largest_possible_rank`): its
    columns are zero where those of x are, and no more of its rows are not zero. Of an x that is not finite, F is NaN.
    """
    if not is_tall(x):
        return x
    factors, present, rows = _on_each_device((x,), *_place(x), folds=1)
    factor = jnp.where(on_one_device(present).any(0)[None, :], _second_level(on_one_device(factors))[0], 0)
    count = int(on_one_device(rows).sum())
    if count >= x.shape[1]:
        return factor
    sigma, vt = right_svd(factor)
    return jnp.where(jnp.arange(len(sigma))[:, None] < count, sigma[:, None] * vt, 0)


def inputs_in_few_rows(pair: TaskPair) -> TaskPair:
    """The pair with `few_rows` as the inputs of each task whose own are tall, which then has no targets."""
    return TaskPair(*(Task(few_rows(task.x)) if is_tall(task.x) else task for task in pair))


def dealt_factors(x: jax.Array, beside: Sequence[jax.Array] = (), *, folds: int = 1) -> jax.Array:
    """F_k with F_k^T F_k = the covariance of every row i of [x, beside] with i mod folds = k, on one device.

    Args:
      x: shape (N, d), a matrix that `is_tall`.
      beside: more columns of the same rows, shapes (N,) or (N, c).
      folds: rows are dealt to so many in turn.

    Returns:
      Shape (folds, d + c, d + c).
    """
    mesh, axes = _place(x)
    spread = NamedSharding(mesh, PartitionSpec(axes))
    parts = (x, *(jax.device_put(columns, spread) for columns in beside))
    return _second_level(on_one_device(_on_each_device(parts, mesh, axes, folds=folds)[0]))


def _place(x: jax.Array) -> tuple[Mesh, tuple[str, ...]]:
    assert isinstance(x.sharding, NamedSharding)
    assert isinstance(x.sharding.mesh, Mesh)
    return x.sharding.mesh, axes_of_rows(x)


def _on_each_device(parts: tuple[jax.Array, ...], mesh: Mesh, axes: tuple[str, ...], *, folds: int):
    """`_first_level`, finished."""
    with one_blas_thread():
        return jax.block_until_ready(_first_level(parts, mesh, axes, folds=folds))


@partial(jax.jit, static_argnums=(1, 2), static_argnames="folds")
def _first_level(parts: tuple[jax.Array, ...], mesh: Mesh, axes: tuple[str, ...], *, folds: int):
    """On each device, of its rows: factors by fold, which columns are not zero, and how many rows are not."""

    def of_shard(*own: jax.Array):
        rows = len(own[0])
        values, exponent = normalised(jnp.concatenate([part.reshape(rows, -1) for part in own], axis=1))
        columns = values.shape[1]
        filled = jnp.pad(values, ((0, -(-max(rows, folds * columns) // folds) * folds - rows), (0, 0)))
        dealt = filled.reshape(-1, folds, columns).swapaxes(0, 1)
        # The first row here has the number index * rows.
        factors = jnp.roll(gram_factor(dealt), jax.lax.axis_index(axes) * rows, axis=0)
        there = values != 0
        return scaled(factors, exponent)[None], there.any(0)[None], there.any(1).sum()[None]

    spread = PartitionSpec(axes)
    return jax.shard_map(of_shard, mesh=mesh, in_specs=spread, out_specs=spread, check_vma=False)(*parts)


@jax.jit
def _second_level(factors: jax.Array) -> jax.Array:
    """Factors of all devices, shape (p, folds, d, d), as those of all rows, shape (folds, d, d)."""
    by_fold = factors.swapaxes(0, 1)
    values, exponent = normalised(by_fold.reshape(len(by_fold), -1, by_fold.shape[-1]))
    return scaled(gram_factor(values), exponent[:, None, None])
