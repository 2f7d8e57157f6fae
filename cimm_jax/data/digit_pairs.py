"""Pairs of digit tasks: one pair, or all 90 ordered pairs stacked for a sweep."""

import enum

import numpy as np

from cimm_jax.data.digit_images import DigitImages
from cimm_jax.data.digit_tasks import DigitTask, DigitVersus, DigitVersusRest, SingleDigit
from cimm_jax.errors import InputError
from cimm_jax.tasks import SplitPair, SplitTask, Task, TaskPair

__all__ = ["DigitKind", "digit_kind", "ordered_pairs", "split_pair", "split_task", "sweep_splits", "sweep_tasks"]


class DigitKind(enum.Enum):
    """What a digit stands for in a sweep."""

    SINGLE = "single"
    """Its images."""
    VERSUS = "versus"
    """It against the next digit (9 against 0). Neighbours' tasks then share the images of one digit."""
    REST = "rest"
    """It against all others."""

    def task_for(self, digit: int) -> DigitTask:
        """The task that the digit stands for."""
        if self is DigitKind.SINGLE:
            return SingleDigit(digit)
        return DigitVersus(digit, (digit + 1) % 10) if self is DigitKind.VERSUS else DigitVersusRest(digit)


def digit_kind(name: str) -> DigitKind:
    """The kind by name; raises `InputError` with the known names if there is none."""
    try:
        return DigitKind(name)
    except ValueError as error:
        raise InputError(f"kind: {name!r} is unknown; choose one of {', '.join(k.value for k in DigitKind)}") from error


def ordered_pairs() -> list[tuple[int, int]]:
    """The 90 ordered pairs (primary, harmful) of distinct digits."""
    return [(primary, harmful) for primary in range(10) for harmful in range(10) if primary != harmful]


def split_pair(
    images: DigitImages,
    primary: DigitTask,
    harmful: DigitTask,
    rows: int | None = None,
    heldout_rows: int | None = None,
) -> SplitPair:
    """One pair of tasks in both parts.

    Args:
      images: the data set.
      primary: the task to keep easy.
      harmful: the task to make hard.
      rows: training rows a side of each task; all there are if None.
      heldout_rows: held-out rows a side of each task; if None, as many as `rows`, or all there are.

    Raises:
      InputError: if a task has fewer rows than asked for.
    """
    tasks = [split_task(images, task, rows, heldout_rows) for task in (primary, harmful)]
    return SplitPair(*(TaskPair(*parts) for parts in zip(*tasks, strict=True)))


def split_task(
    images: DigitImages, task: DigitTask, rows: int | None = None, heldout_rows: int | None = None
) -> SplitTask:
    """One task in both parts; arguments and errors as in `split_pair`.

    Without `heldout_rows` the held-out part has all its rows, up to `rows` if that is given.
    """
    if rows is not None and heldout_rows is None:
        heldout_rows = min(rows, task.available(images.heldout_y))
    return SplitTask(
        task.task(images.train_x, images.train_y, rows), task.task(images.heldout_x, images.heldout_y, heldout_rows)
    )


def sweep_splits(
    images: DigitImages, kind: DigitKind, rows: int | None = None, heldout_rows: int | None = None
) -> tuple[list[tuple[int, int]], SplitPair]:
    """All 90 ordered pairs, and their tasks stacked along a leading axis: `sweep_tasks` with a copy for every pair.

    x is (90, rows, d), or (90, 2 rows, d) for the kinds with two sides, and y the same without d. All of MNIST is 7 GB for
    single digits, 14 GB otherwise, and twice that while it is stacked; `rows` and `heldout_rows` cap it.

    Args:
      images: the data set.
      kind: what a digit stands for.
      rows: training rows a side of each task, from 2; if None, the most that every task has.
      heldout_rows: the same for the held-out part.

    Returns:
      The pairs (primary, harmful), and their tasks in the same order, numpy float64.

    Raises:
      InputError: if a number of rows is less than 2 or more than every task has.
    """
    pairs, tasks = ordered_pairs(), sweep_tasks(images, kind, rows, heldout_rows)
    return pairs, SplitPair(*(_stacked(part, pairs) for part in tasks))


def sweep_tasks(
    images: DigitImages, kind: DigitKind, rows: int | None = None, heldout_rows: int | None = None
) -> SplitTask:
    """The ten digits' tasks, stacked along a leading axis and cut to one number of rows; arguments as in `sweep_splits`."""
    tasks = [kind.task_for(digit) for digit in range(10)]
    train = _equal_rows(tasks, images.train_x, images.train_y, rows, "rows")
    heldout = _equal_rows(tasks, images.heldout_x, images.heldout_y, heldout_rows, "heldout_rows")
    return SplitTask(train, heldout)


def _equal_rows(tasks: list[DigitTask], x: np.ndarray, y: np.ndarray, rows: int | None, argument: str) -> Task:
    available = min(task.available(y) for task in tasks)
    if rows is not None and not 2 <= rows <= available:
        raise InputError(f"{argument}: every task has {available} rows a side, got {rows}; ask for 2 to {available}")
    each = [task.task(x, y, available if rows is None else rows) for task in tasks]
    return Task(np.stack([task.x for task in each]), np.stack([task.y for task in each]))


def _stacked(tasks: Task, pairs: list[tuple[int, int]]) -> TaskPair:
    primary, harmful = np.asarray(pairs).T
    return TaskPair(*(Task(tasks.x[chosen], tasks.y[chosen]) for chosen in (primary, harmful)))
