"""Pairs of digit tasks: one pair by name, or all 90 ordered pairs stacked for a sweep."""

import enum

from cimm_jax.data.digit_images import DigitImages
from cimm_jax.data.digit_tasks import DigitTask, DigitVersus, DigitVersusRest, SingleDigit
from cimm_jax.errors import InputError
from cimm_jax.tasks import SplitPair, TaskPair, stack_pairs


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


def split_pair(images: DigitImages, primary: DigitTask, harmful: DigitTask) -> SplitPair:
    """One pair of tasks with all the rows there are, in both parts."""
    return SplitPair(
        _pair(images.train_x, images.train_y, primary, harmful), _pair(images.heldout_x, images.heldout_y, primary, harmful)
    )


def sweep_splits(
    images: DigitImages, kind: DigitKind, rows: int | None = None
) -> tuple[list[tuple[int, int]], SplitPair]:
    """All 90 ordered pairs, and their tasks stacked along a leading axis.

    Every task is cut to the same number of rows, that of the rarest digit, so that the pairs have one shape.

    Args:
      images: the data set.
      kind: what a digit stands for.
      rows: training rows a side of each task, if fewer than there are.

    Raises:
      InputError: if `rows` is less than 2 or more than there are.
    """
    pairs = ordered_pairs()
    tasks = [kind.task_for(digit) for digit in range(10)]
    available = min(task.available(images.train_y) for task in tasks)
    if rows is not None and not 2 <= rows <= available:
        raise InputError(f"rows: needs 2 to {available} for tasks of kind {kind.value!r}, got {rows}")
    heldout_rows = min(task.available(images.heldout_y) for task in tasks)
    train = [task.task(images.train_x, images.train_y, rows or available) for task in tasks]
    heldout = [task.task(images.heldout_x, images.heldout_y, heldout_rows) for task in tasks]
    return pairs, SplitPair(
        *(stack_pairs([TaskPair(part[primary], part[harmful]) for primary, harmful in pairs]) for part in (train, heldout))
    )


def _pair(x, y, primary: DigitTask, harmful: DigitTask) -> TaskPair:
    return TaskPair(primary.task(x, y), harmful.task(x, y))
