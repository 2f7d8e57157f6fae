"""Many pairs of tasks without a copy of a task for each pair that it belongs to."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.numerics.meshes import on_one_device
from cimm_jax.tasks import Array, SplitPair, SplitTask, Task, TaskPair, check_task

__all__ = ["Pairs", "check_pairs", "on_device", "pair_at", "pairs_of", "pairs_of_stack", "rows_at"]


class Pairs(NamedTuple):
    """Pairs drawn from two stacks of tasks, which may be one and the same.

    Ninety ordered pairs of ten digits are ten tasks and ninety pairs of numbers.

    Attributes:
      primary: primary tasks, every leaf with a leading axis of tasks.
      harmful: harmful tasks, the same.
      primary_of: which primary task each pair has, whole numbers of shape (pairs,).
      harmful_of: which harmful task, the same.
    """

    primary: SplitTask
    harmful: SplitTask
    primary_of: Array
    harmful_of: Array


def pairs_of(tasks: SplitTask, numbers: Sequence[tuple[int, int]]) -> Pairs:
    """The pairs (primary, harmful) of a stack of tasks, by their numbers."""
    primary_of, harmful_of = np.asarray(numbers, np.int32).T
    return Pairs(tasks, tasks, primary_of, harmful_of)


def pairs_of_stack(split: SplitPair) -> Pairs:
    """Stacked pairs (`stack_pairs`) as `Pairs`; nothing is copied."""
    numbers = np.arange(np.shape(split.train.primary.x)[0], dtype=np.int32)
    primary, harmful = (split.task(side) for side in TaskPair._fields)
    return Pairs(primary, harmful, numbers, numbers)


def pair_at(pairs: Pairs, number: jax.Array) -> SplitPair:
    """One pair, both parts; traceable."""
    primary = jax.tree.map(lambda leaf: leaf[pairs.primary_of[number]], pairs.primary)
    harmful = jax.tree.map(lambda leaf: leaf[pairs.harmful_of[number]], pairs.harmful)
    return SplitPair(TaskPair(primary.train, harmful.train), TaskPair(primary.heldout, harmful.heldout))


def rows_at(pairs: Pairs, number: jax.Array, rows: tuple[jax.Array, jax.Array]) -> TaskPair:
    """The given training rows of one pair, without first making a copy of all; traceable."""
    primary = jax.tree.map(lambda leaf: leaf[pairs.primary_of[number], rows[0]], pairs.primary.train)
    harmful = jax.tree.map(lambda leaf: leaf[pairs.harmful_of[number], rows[1]], pairs.harmful.train)
    return TaskPair(primary, harmful)


def on_device(pairs: Pairs) -> Pairs:
    """The same with arrays of JAX; one stack of tasks stays one."""
    primary, harmful, primary_of, harmful_of = pairs
    tasks = jax.tree.map(_on_one, primary)
    others = tasks if harmful is primary else jax.tree.map(_on_one, harmful)
    return Pairs(tasks, others, jnp.asarray(primary_of), jnp.asarray(harmful_of))


def _on_one(leaf: Array) -> jax.Array:
    return on_one_device(jnp.asarray(leaf))


def check_pairs(pairs: Pairs, name: str, *, needs_labels: bool) -> None:
    """Raises `InputError` unless every task is usable and all have the same number of features."""
    shapes = [
        np.shape(getattr(tasks, part).x) for tasks in (pairs.primary, pairs.harmful) for part in SplitTask._fields
    ]
    if any(len(shape) != 3 for shape in shapes):
        raise InputError(
            f"{name}: needs inputs of shape (pairs, rows, features), got {' and '.join(map(str, shapes))}; "
            "stack the pairs with stack_pairs"
        )
    if len({shape[2] for shape in shapes}) > 1:
        raise InputError(f"{name}: tasks have {sorted({shape[2] for shape in shapes})} features; make them equal")
    for side in TaskPair._fields if pairs.primary is not pairs.harmful else TaskPair._fields[:1]:
        for part in SplitTask._fields:
            _check_stack(getattr(getattr(pairs, side), part), f"{name}.{part}", side, needs_labels and part == "train")


def _check_stack(task: Task, name: str, side: str, needs_labels: bool) -> None:
    host = jax.tree.map(np.asarray, task)
    if host.y is not None and not jnp.issubdtype(host.y.dtype, jnp.floating):
        raise InputError(
            f"{name}.{side}.y: needs floating-point targets, got {host.y.dtype}; give cimm_jax.one_hot(y, classes) for classes"
        )
    for index in range(len(host.x)):
        one = jax.tree.map(lambda leaf, index=index: leaf[index], host)
        check_task(one, f"{name}[{index}].{side}", needs_labels=needs_labels)
