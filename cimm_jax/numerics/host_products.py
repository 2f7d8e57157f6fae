"""x^T x of arrays in the host's memory, as a rank-k update: half the work of a product, and added straight to a sum.

XLA knows no such update and computes both halves of x^T x. On the CPU the arrays of JAX lie in the host's memory, too, and BLAS
looks at them where they are.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import SingleDeviceSharding

__all__ = ["ROWS_AT_ONCE", "add_products", "as_host", "mirrored", "products", "sum_of_squares", "zeros"]

ROWS_AT_ONCE = 2048
"""Rows that are converted together before they are multiplied: of 1,024 features in float64, 16 MiB."""

_ALIGNMENT = 64
"""Bytes: XLA's buffers on the CPU begin at multiples of it."""

_TILE = 128
"""Rows and columns that are mirrored together, so that both sides stay in the cache."""


def as_host(x: np.ndarray | jax.Array) -> np.ndarray | None:
    """The array as NumPy sees it, without a copy, if it would be multiplied on this CPU; None of any other, and of a tracer."""
    if isinstance(x, np.ndarray):
        return x if _default_platform() == "cpu" else None
    if isinstance(x, Tracer) or not isinstance(x.sharding, SingleDeviceSharding):
        return None
    return np.asarray(x) if next(iter(x.devices())).platform == "cpu" else None


def products(x: np.ndarray) -> np.ndarray:
    """x^T x of shape (..., d, d), exactly symmetric, for x of shape (..., N, d) and its dtype, float32 or float64."""
    size = x.shape[-1]
    found = zeros((*x.shape[:-2], size, size), x.dtype)
    if x.ndim > 2 and size <= _TILE:  # many small ones, which NumPy goes through faster
        return mirrored(np.matmul(x.mT, x, out=found))
    for place in np.ndindex(x.shape[:-2]):
        add_products(found[place], x[place])
        mirrored(found[place])
    return found


def zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """As NumPy makes them, but where JAX would put them: `jax.device_put` then takes them over without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def add_products(total: np.ndarray, x: np.ndarray) -> None:
    """Adds x^T x to a sum, in place: above its diagonal and on it; what is below is left as it is.

    Args:
      total: contiguous, shape (d, d), float32 or float64.
      x: rows, shape (N, d), float32 or float64; of another dtype than the sum they are converted before they are multiplied.
    """
    if not x.size:
        return
    update = _blas("syrk", total.dtype)
    fits = x.dtype == total.dtype and (x.flags.c_contiguous or x.flags.f_contiguous)
    step = len(x) if fits else ROWS_AT_ONCE
    for start in range(0, len(x), step):
        part = x if fits else np.ascontiguousarray(x[start : start + step], total.dtype)
        # Fortran's view of a row-major array is its transpose: its lower half is our upper one.
        columns, transposed = (part.T, 0) if part.flags.c_contiguous else (part, 1)
        update(1.0, columns, beta=1.0, c=total.T, overwrite_c=1, trans=transposed, lower=1)


def sum_of_squares(x: np.ndarray) -> float:
    """Of all entries, float32 or float64, in one pass; finite only if all of them are.

    By the BLAS of `add_products`: NumPy has another, and the threads of two get in each other's way.
    """
    entries = x.ravel()
    return float(_blas("dot", x.dtype)(entries, entries)) if x.size else 0.0


def mirrored(total: np.ndarray) -> np.ndarray:
    """The same array, shape (..., d, d), after what is above the diagonal was copied to below it."""
    below = np.tri(_TILE, k=-1, dtype=bool)
    for start in range(0, total.shape[-1], _TILE):
        stop = start + _TILE
        total[..., start:stop, :start] = total[..., :start, start:stop].mT
        tile = total[..., start:stop, start:stop]
        np.copyto(tile, tile.mT, where=below[: tile.shape[-1], : tile.shape[-1]])
    return total


@cache
def _blas(name: str, dtype: np.dtype) -> Callable[..., Any]:
    from scipy.linalg import blas

    return getattr(blas, f"{'d' if dtype == np.float64 else 's'}{name}")


def _default_platform() -> str:
    """Of the device that JAX puts arrays on."""
    device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return jax.default_backend() if device is None else getattr(device, "platform", device)
