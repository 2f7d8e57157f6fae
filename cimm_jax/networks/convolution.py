"""Convolutions whose gradients are quick on a CPU.

XLA's CPU backend computes the gradient of a small kernel several times more slowly than the convolution itself. Written out, it
is a sum of products of shifted images, and as one product of matrices it runs at the speed of those:

    dK[i, j] = sum over images and places of x[place + (i, j)]^T g[place]

The shifts along a row are laid beside each other in x, those along a column in g, so that neither is copied as often as the
kernel has entries; a few images at a time, so that both stay in the cache. The gradient of the inputs of a convolution without
stride is a convolution by the turned kernel. Elsewhere, and for strides, dilation and groups, XLA's own forms are used.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from cimm_jax.numerics.products import product

__all__ = ["convolved"]

BYTES_AT_ONCE = 1_600_000
"""Of the two matrices that are multiplied."""

FEW_CHANNELS = 16
"""Inputs and outputs up to which two neighbouring places of a row are computed by one kernel that is a column wider: a third of
its products is by zero, and yet it is quicker, since so few outputs fill no vector."""

Pads = tuple[tuple[int, int], tuple[int, int]]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def convolved(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: tuple[int, int],
    padding: str | Any,
    *,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **others: Any,
) -> jax.Array:
    """`lax.conv_general_dilated`, as `nnx.Conv` calls it, with other gradients where the default backend is a CPU.

    It cannot be differentiated forwards there.

    Args:
      lhs: images, shape (N, height, width, inputs).
      rhs: kernel, shape (rows, columns, inputs, outputs).
      window_strides: of rows and columns.
      padding: "SAME", "VALID" or numbers.
      lhs_dilation: as `lax` has it, like all others.
      rhs_dilation: the same.
      dimension_numbers: the same.
      feature_group_count: the same.
      others: the same.
    """
    dilated = any(factor != 1 for factors in (lhs_dilation, rhs_dilation) for factor in factors or ())
    if jax.default_backend() != "cpu" or dilated or feature_group_count != 1 or lhs.ndim != 4:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation,
            rhs_dilation,
            dimension_numbers,
            feature_group_count,
            **others,
        )
    pads = (
        lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
        if isinstance(padding, str)
        else padding
    )
    rows, columns = ((int(before), int(after)) for before, after in pads)
    return _convolved(lhs, rhs, tuple(window_strides), (rows, columns))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolved(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    return _plain(x, kernel, strides, pads)


def _plain(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    """The convolution; two places of a row at once where there are few channels."""
    wide = x.shape[2] + sum(pads[1]) - kernel.shape[1] + 1
    if strides != (1, 1) or max(kernel.shape[2:]) > FEW_CHANNELS or kernel.shape[1] == 1 or wide % 2:
        return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_LAYOUT)
    left, right = (jnp.pad(kernel, ((0, 0), side, (0, 0), (0, 0))) for side in ((0, 1), (1, 0)))
    both = jnp.concatenate([left, right], axis=-1)
    found = lax.conv_general_dilated(x, both, (1, 2), pads, dimension_numbers=_LAYOUT)
    return found.reshape(*found.shape[:2], wide, kernel.shape[3])


def _forward(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads):
    return _convolved(x, kernel, strides, pads), (x, kernel)


def _backward(strides: tuple[int, int], pads: Pads, kept, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    return _input_gradient(x, kernel, g, strides, pads), _kernel_gradient(x, g, kernel.shape, strides, pads)


_convolved.defvjp(_forward, _backward)


def _input_gradient(x: jax.Array, kernel: jax.Array, g: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    if strides != (1, 1):
        return jax.vjp(lambda x: _plain(x, kernel, strides, pads), x)[1](g)[0]
    turned = jnp.swapaxes(kernel[::-1, ::-1], 2, 3)
    rows, columns = ((n - 1 - before, n - 1 - after) for n, (before, after) in zip(kernel.shape, pads, strict=False))
    return _plain(g, turned, (1, 1), (rows, columns))


def _kernel_gradient(
    x: jax.Array, g: jax.Array, shape: tuple[int, ...], strides: tuple[int, int], pads: Pads
) -> jax.Array:
    """Shape (rows, columns, inputs, outputs), a few images at a time."""
    of_some = partial(_without_stride if strides == (1, 1) else _with_stride, shape=shape, strides=strides, pads=pads)
    rows, columns, inputs, outputs = shape
    places = x.shape[1] * g.shape[2] if strides == (1, 1) else g.shape[1] * g.shape[2]
    width = columns * inputs + rows * outputs if strides == (1, 1) else rows * columns * inputs + outputs
    most = max(1, BYTES_AT_ONCE // (x.dtype.itemsize * places * width))
    at_once = max(count for count in range(1, len(x) + 1) if len(x) % count == 0 and count <= most)
    parts = (x.reshape(-1, at_once, *x.shape[1:]), g.reshape(-1, at_once, *g.shape[1:]))
    return lax.scan(lambda total, part: (total + of_some(*part), None), jnp.zeros(shape, x.dtype), parts)[0]


def _without_stride(
    x: jax.Array, g: jax.Array, *, shape: tuple[int, ...], strides: tuple[int, int], pads: Pads
) -> jax.Array:
    """Shifts along rows of x, along columns of g."""
    del strides
    rows, columns, inputs, outputs = shape
    height, (top, _), wide = x.shape[1], pads[0], g.shape[2]
    padded = jnp.pad(x, ((0, 0), (0, 0), pads[1], (0, 0)))
    beside = jnp.concatenate([padded[:, :, j : j + wide] for j in range(columns)], axis=-1)
    # Row r of x meets row r - i + top of g, which is zero where there is none.
    before, after = rows - 1 - top, height + top - g.shape[1]
    shifted = lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), (before, after, 0), (0, 0, 0), (0, 0, 0)))
    below = jnp.concatenate([shifted[:, rows - 1 - i : rows - 1 - i + height] for i in range(rows)], axis=-1)
    found = product(beside.reshape(-1, columns * inputs).T, below.reshape(-1, rows * outputs))
    return found.reshape(columns, inputs, rows, outputs).transpose(2, 0, 1, 3)


def _with_stride(
    x: jax.Array, g: jax.Array, *, shape: tuple[int, ...], strides: tuple[int, int], pads: Pads
) -> jax.Array:
    """Every shift in x."""
    rows, columns, inputs, outputs = shape
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    (down, across), (high, wide) = strides, g.shape[1:3]
    patches = [
        padded[:, i : i + down * (high - 1) + 1 : down, j : j + across * (wide - 1) + 1 : across]
        for i in range(rows)
        for j in range(columns)
    ]
    found = product(jnp.concatenate(patches, axis=-1).reshape(-1, rows * columns * inputs).T, g.reshape(-1, outputs))
    return found.reshape(shape)
