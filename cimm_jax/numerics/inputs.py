"""What a person hands to a function, as arrays of JAX: converted, warned about and refused in one place."""

import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from cimm_jax.errors import InputError
from cimm_jax.numerics.meshes import on_one_device
from cimm_jax.tasks import Task, TaskPair, as_floating, as_numbers, as_targets

__all__ = ["PrecisionWarning", "as_array", "as_held", "as_matrix", "as_pair", "as_task", "check_finite", "is_concrete"]

_PACKAGE = str(Path(__file__).parents[1])


class PrecisionWarning(UserWarning):
    """Numbers were given in float64, and JAX, which is set to float32, computes with less than half their digits."""


def as_array(value: Any, name: str, *, whole: bool = True) -> jax.Array:
    """The value as an array of JAX, float32 or float64; a tracer stays one.

    What NumPy can read as numbers will do (`tasks.as_floating`): lists, pandas, float16 and bfloat16, which become float32, and
    whole numbers. float64 becomes float32 where JAX is set to that, with a `PrecisionWarning` at the caller's line.

    Args:
      value: of any shape.
      name: what the caller's argument is called, for messages.
      whole: copy an array that is sharded over explicit axes of a mesh to one device (`meshes.on_one_device`).

    Raises:
      InputError: if it holds no real numbers, or larger ones than float32 where JAX is set to that.
    """
    held = as_held(value, name)
    array = jnp.asarray(held) if isinstance(held, np.ndarray) else held
    return on_one_device(array) if whole else array


def as_held(value: Any, name: str) -> np.ndarray | jax.Array:
    """What `as_array` makes of the value, but left to NumPy if NumPy read it; errors are the same."""
    numbers = as_numbers(value, name)
    array = as_floating(numbers, name)
    if isinstance(array, np.ndarray):
        return _narrowed(array, name, warn=jnp.issubdtype(numbers.dtype, jnp.floating))
    return array


def as_matrix(value: Any, name: str, *, finite: bool = True, whole: bool = True) -> jax.Array:
    """`as_array` of shape (..., rows, columns); a concrete one is finite, unless that is not asked for.

    Raises:
      InputError: as `as_array`, or if it has fewer than two axes, has no entries or, where that is asked for, is not finite.
    """
    array = as_array(value, name, whole=whole)
    if array.ndim < 2:
        raise InputError(f"{name}: needs shape (..., rows, columns), got {array.shape}; give a matrix")
    if array.size == 0:
        raise InputError(f"{name}: has no entries, its shape is {array.shape}; give at least one row and one column")
    if finite:
        check_finite(array, name)
    return array


def as_task(task: Task, name: str) -> Task:
    """A task with inputs as `as_array` makes them and targets of their dtype, whole ones as classes; they may be traced."""
    x = as_array(task.x, f"{name}.x")
    if task.y is None:
        return Task(x)
    return Task(x, as_array(as_targets(task.y, f"{name}.y", x.dtype), f"{name}.y").astype(x.dtype))


def as_pair(pair: TaskPair, name: str = "pair") -> TaskPair:
    """Both tasks as `as_task` makes them, in the wider of their dtypes."""
    tasks = [as_task(task, f"{name}.{side}") for side, task in pair._asdict().items()]
    dtype = np.promote_types(*(task.x.dtype for task in tasks))
    return TaskPair(*(jax.tree.map(lambda leaf: leaf.astype(dtype), task) for task in tasks))


def check_finite(array: jax.Array, name: str) -> None:
    """Raises `InputError` if the array is concrete and has NaN or infinite entries."""
    if is_concrete(array) and not np.isfinite(np.asarray(array)).all():
        raise InputError(f"{name}: has NaN or infinite entries; remove or impute them first")


def is_concrete(array: jax.Array) -> bool:
    """Whether this process holds all its entries now: it is not traced, nor partly on another machine."""
    return not isinstance(array, Tracer) and array.is_fully_addressable


def _narrowed(array: np.ndarray, name: str, *, warn: bool) -> np.ndarray:
    """In float32 if JAX is set to that: `warn` says so even if every entry stays what it is."""
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    with np.errstate(over="ignore"):
        narrow = array.astype(dtype)
    if (np.isinf(narrow) & np.isfinite(array)).any() or (array.any() and not narrow.any()):
        raise InputError(f"{name}: has numbers out of the range of {dtype}; use jax.enable_x64(True), or scale them")
    if warn or not np.array_equal(narrow, array):
        warnings.warn(
            # The same for all arguments, so that a call is warned about once.
            f"got {array.dtype} and JAX is set to {dtype}, in which small singular values drown in rounding errors; use "
            "`with jax.enable_x64(True):`, or give float32",
            PrecisionWarning,
            stacklevel=_callers_level(),
        )
    return narrow


def _callers_level() -> int:
    """How far up the stack from the function that calls this one the first line outside the package is."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
