"""Powers of two: arrays are measured at a scale at which nothing over- or underflows, and nothing is rounded on the way.

Condition numbers, ratios and shares do not change when a matrix is multiplied by a number, but the squares, products and
reciprocals that they are made of leave the range of numbers long before the matrix does. So whatever squares divides by a power
of two first (`normalised`), and what has a scale is multiplied by one in the end (`scaled`). Neither changes a digit.

Arrays of ordinary size stay as they are, so that logarithms of what is made of them keep their last bit too.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["MATRIX", "VALUES", "Normalised", "normalised", "scaled", "within_range"]

MATRIX = (-2, -1)
"""The axes of a matrix in a batch."""

VALUES = (-1,)
"""The axis of eigenvalues or singular values in a batch."""

_ORDINARY = 16
"""Arrays whose largest entry is this root of the largest number, or of the smallest, are of ordinary size: 2^64, or 2^8 in
float32. Eighth powers are then far from either, and R_ill's gradient in features has none higher."""


class Normalised(NamedTuple):
    """An array in units of its own.

    Attributes:
      values: the array, with its largest absolute entry in [1/2, 1); as it was, if that is of ordinary size, or zero, infinite
        or NaN.
      exponent: int32, of the batch shape: the array is values * 2^exponent.
    """

    values: jax.Array
    exponent: jax.Array


@partial(jax.jit, static_argnames="axes")
def normalised(array: jax.Array, axes: tuple[int, ...] = MATRIX) -> Normalised:
    """The array, float32 or float64, over a power of two for each member of a batch; for derivatives a constant.

    Args:
      array: shape (..., *axes): the axes that one power is for come last.
      axes: `MATRIX` or `VALUES`.
    """
    info = jnp.finfo(array.dtype)
    largest = jnp.abs(jax.lax.stop_gradient(array)).max(axes)
    # Of its bits, without the sign, those before the fraction: all 0 of zero and all 1 of what is not finite.
    biased = (jax.lax.bitcast_convert_type(largest, _unsigned(array.dtype)) >> info.nmant).astype(jnp.int32)
    exponent = biased - (info.maxexp - 2)
    usable = (biased > 0) & (biased < 2 * info.maxexp - 1)
    exponent = jnp.where(usable & (jnp.abs(exponent) > info.maxexp // _ORDINARY), exponent, 0)
    return Normalised(scaled(array, -jnp.expand_dims(exponent, axes)), exponent)


@jax.jit
def scaled(array: jax.Array, exponent: jax.Array) -> jax.Array:
    """An array, float32 or float64, times 2^exponent: to the digit where that is a normal number, zero or infinite beyond.

    Args:
      array: any shape.
      exponent: int32, of a shape that broadcasts with it.
    """
    info = jnp.finfo(array.dtype)
    # Three factors, since two may not take the smallest number beyond the largest; nearly equal, so that each is a normal
    # number and brings the array nearer to the end.
    far = 3 * -info.minexp - 2
    exponent = jnp.clip(exponent, -far, far)
    third = jax.lax.div(exponent, jnp.int32(3))
    factor = _power_of_two(third, array.dtype)
    return array * factor * factor * _power_of_two(exponent - 2 * third, array.dtype)


@jax.jit
def within_range(array: jax.Array) -> jax.Array:
    """The array with what overflowed held at the largest number over the length of the last axis, so that sums are finite."""
    largest = float(jnp.finfo(array.dtype).max) / array.shape[-1]
    return jnp.clip(array, -largest, largest)


def _power_of_two(exponent: jax.Array, dtype) -> jax.Array:
    """2^exponent by its bits, since no power function promises the last one."""
    info = jnp.finfo(dtype)
    biased = (exponent + (info.maxexp - 1)).astype(_unsigned(dtype))
    return jax.lax.bitcast_convert_type(biased << info.nmant, dtype)


def _unsigned(dtype):
    return jnp.uint32 if dtype == jnp.float32 else jnp.uint64
