"""Tasks and pairs of tasks: what every immunization method, metric and attacker is given.

`Task` and `TaskPair` are pytrees of arrays, so `jit`, `vmap` and sharding compose from outside; a leading axis on every
leaf makes a stack of tasks (`stack_pairs`). Nothing is validated on construction, since traced values pass through
here: `check_pair` is called by the functions that a person calls, before anything is traced.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError

__all__ = ["Array", "SplitPair", "SplitTask", "Task", "TaskPair", "check_pair", "check_task", "stack_pairs"]

Array = Any
"""A JAX or a NumPy array, or a tracer of one."""


class Task(NamedTuple):
    """A supervised task on raw inputs.

    Attributes:
      x: inputs, shape (N, d), floating point.
      y: targets, shape (N,) or (N, C), floating point; -1 and +1 for a two-class task, any real number for regression,
        `cimm_jax.one_hot(labels)` for classes by number. Integers are refused: they may be classes or amounts, and a class
        number is no amount. None where only the covariance is known: methods that train a primary head then refuse the task.
    """

    x: Array
    y: Array = None


class TaskPair(NamedTuple):
    """The primary task, which must stay easy, and the harmful one, which must become hard. Both have the same d."""

    primary: Task
    harmful: Task


class SplitTask(NamedTuple):
    """One task in two parts."""

    train: Task
    heldout: Task


class SplitPair(NamedTuple):
    """One pair in two parts: what a method may look at, and what only the measurement sees."""

    train: TaskPair
    heldout: TaskPair

    def task(self, name: str) -> SplitTask:
        """One side, "primary" or "harmful", in both parts."""
        return SplitTask(*(getattr(part, name) for part in self))


def check_task(task: Task, name: str, *, needs_labels: bool = False) -> None:
    """Raises `InputError` unless `task` is usable: 2-D finite float inputs, at least two rows, targets that match."""
    x = task.x
    if np.ndim(x) != 2:
        raise InputError(f"{name}.x: needs shape (rows, features), got {np.shape(x)}; flatten each input to one row")
    rows, features = np.shape(x)
    if rows < 2 or features < 1:
        raise InputError(f"{name}.x: needs at least 2 rows and 1 feature, got shape {np.shape(x)}; give more data")
    _check_floating(x, f"{name}.x")
    if not np.any(np.asarray(x)):
        raise InputError(f"{name}.x: is zero everywhere, so it has no condition number; check how it was loaded")
    if task.y is None:
        if needs_labels:
            raise InputError(f"{name}.y: is None, but the method trains on it; give targets of shape ({rows},)")
        return
    if np.ndim(task.y) not in (1, 2) or np.shape(task.y)[0] != rows:
        raise InputError(f"{name}.y: needs shape ({rows},) or ({rows}, C), got {np.shape(task.y)}; match it to x")
    if np.ndim(task.y) == 2 and np.shape(task.y)[1] > rows:
        raise InputError(
            f"{name}.y: has {np.shape(task.y)[1]} classes and only {rows} rows; give more data, or fewer classes"
        )
    if np.asarray(task.y).dtype.kind in "biu":
        raise InputError(
            f"{name}.y: holds integers, which may be classes or amounts; give cimm_jax.one_hot(y) for classes, or "
            "y.astype(float) for amounts, or for -1 and +1"
        )
    _check_floating(task.y, f"{name}.y")


def check_pair(pair: TaskPair, name: str = "pair", *, needs_labels: bool = False) -> None:
    """Raises `InputError` unless both tasks are usable and share the number of features.

    Args:
      pair: concrete (not traced) arrays.
      name: what the caller's argument is called, for the message.
      needs_labels: whether a method will train on the targets of both tasks.
    """
    check_task(pair.primary, f"{name}.primary", needs_labels=needs_labels)
    check_task(pair.harmful, f"{name}.harmful", needs_labels=needs_labels)
    d_primary, d_harmful = np.shape(pair.primary.x)[1], np.shape(pair.harmful.x)[1]
    if d_primary != d_harmful:
        raise InputError(
            f"{name}.harmful.x: has {d_harmful} features and {name}.primary.x has {d_primary}; "
            "one extractor serves both tasks, so make them equal"
        )


def stack_pairs(pairs: Sequence[TaskPair]) -> TaskPair:
    """Stacks equally shaped pairs along a new leading axis, for `vmap`; raises `InputError` if the shapes differ."""
    if not pairs:
        raise InputError("pairs: is empty; give at least one pair")
    shapes = {tuple(np.shape(leaf) for leaf in jax.tree.leaves(pair)) for pair in pairs}
    if len(shapes) > 1:
        raise InputError(f"pairs: have {len(shapes)} different shapes; give every task the same number of rows")
    return jax.tree.map(_stack, *pairs)


def _stack(*leaves):
    # NumPy data stay on the host, in float64 whatever JAX is set to.
    return np.stack(leaves) if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp.stack(leaves)


def _check_floating(array, name: str) -> None:
    dtype = np.asarray(array).dtype
    if not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(f"{name}: needs a floating-point dtype, got {dtype}; convert it with .astype(float)")
    bad = int(np.size(array) - np.isfinite(np.asarray(array)).sum())
    if bad:
        raise InputError(f"{name}: has {bad} NaN or infinite values; remove or impute them first")
