"""The three kinds of task that images of digits make."""

import re
from dataclasses import dataclass

import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.tasks import Task

__all__ = [
    "DRAW_SEED",
    "DigitTask",
    "DigitVersus",
    "DigitVersusRest",
    "SingleDigit",
    "is_digit_task",
    "parse_digit_task",
]

DRAW_SEED = 0
"""Seeds the draw of the other digits' images, so that a task is the same in every run."""


@dataclass(frozen=True)
class SingleDigit:
    """All images of one digit, all labelled +1, as in the paper's released code: only the covariance is of interest."""

    digit: int

    def __post_init__(self):
        _check_digit(self.digit, "digit")

    @property
    def title(self) -> str:
        """What people call the task."""
        return f"images of digit {self.digit}"

    def digits(self) -> set[int]:
        """Whose images the task has."""
        return {self.digit}

    def available(self, y: np.ndarray) -> int:
        """How many rows the task can have, from the labels y of shape (N,)."""
        return _count(y, self.digit)

    def task(self, x: np.ndarray, y: np.ndarray, rows: int | None = None) -> Task:
        """The task on the first images of the digit.

        Args:
          x: images, shape (N, d), float64.
          y: the digit of each image, shape (N,), integers.
          rows: how many images; all of them if None.

        Returns:
          x of shape (rows, d) and y of shape (rows,), numpy float64.

        Raises:
          InputError: if there are fewer images than `rows`, or none at all.
        """
        count = _rows_a_side(self, y, rows)
        return Task(x[y == self.digit][:count], np.ones(count))


@dataclass(frozen=True)
class DigitVersus:
    """One digit, labelled +1, against another, labelled -1, with as many images of each."""

    digit: int
    other: int

    def __post_init__(self):
        _check_digit(self.digit, "digit")
        _check_digit(self.other, "other")
        if self.digit == self.other:
            raise InputError(f"other: is {self.other}, as digit is; give two different digits")

    @property
    def title(self) -> str:
        """What people call the task."""
        return f"digit {self.digit} against digit {self.other}"

    def digits(self) -> set[int]:
        """Whose images the task has."""
        return {self.digit, self.other}

    def available(self, y: np.ndarray) -> int:
        """How many rows each side of the task can have, from the labels y of shape (N,)."""
        return min(_count(y, self.digit), _count(y, self.other))

    def task(self, x: np.ndarray, y: np.ndarray, rows: int | None = None) -> Task:
        """The task on the first images of both digits; as `SingleDigit.task`, with `rows` rows of each side.

        Returns:
          x of shape (2 rows, d) and y of shape (2 rows,), numpy float64, the side labelled +1 first.
        """
        count = _rows_a_side(self, y, rows)
        return _two_sided(x[y == self.digit][:count], x[y == self.other][:count])


@dataclass(frozen=True)
class DigitVersusRest:
    """One digit, labelled +1, against as many images of the other nine, labelled -1 and drawn evenly from them."""

    digit: int

    def __post_init__(self):
        _check_digit(self.digit, "digit")

    @property
    def title(self) -> str:
        """What people call the task."""
        return f"digit {self.digit} against all others"

    def digits(self) -> set[int]:
        """Whose images the task has."""
        return set(range(10))

    def available(self, y: np.ndarray) -> int:
        """How many rows each side of the task can have, from the labels y of shape (N,)."""
        return min(_count(y, self.digit), 9 * min(_count(y, other) for other in self._others()))

    def task(self, x: np.ndarray, y: np.ndarray, rows: int | None = None) -> Task:
        """The task on the first images of the digit and a draw of the others; as `SingleDigit.task`, `rows` a side.

        Returns:
          x of shape (2 rows, d) and y of shape (2 rows,), numpy float64, the side labelled +1 first.
        """
        count = _rows_a_side(self, y, rows)
        draw = np.random.default_rng(DRAW_SEED)
        per_digit = -(-count // 9)
        # One row a digit in drawn order; reading down the columns takes one image of each digit in turn.
        drawn = np.stack([draw.permutation(np.flatnonzero(y == other))[:per_digit] for other in self._others()])
        return _two_sided(x[y == self.digit][:count], x[drawn.T.ravel()[:count]])

    def _others(self) -> list[int]:
        return [digit for digit in range(10) if digit != self.digit]


DigitTask = SingleDigit | DigitVersus | DigitVersusRest


def parse_digit_task(text: str, argument: str) -> DigitTask:
    """Reads "3" (images of one digit), "0v1" (one digit against another) or "3vrest" (against all others).

    Raises:
      InputError: naming `argument`, if the text is none of these.

    >>> parse_digit_task("0v1", "primary")
    DigitVersus(digit=0, other=1)
    """
    if match := re.fullmatch(r"([0-9])", text):
        return SingleDigit(int(match[1]))
    if match := re.fullmatch(r"([0-9])vrest", text):
        return DigitVersusRest(int(match[1]))
    if (match := re.fullmatch(r"([0-9])v([0-9])", text)) and match[1] != match[2]:
        return DigitVersus(int(match[1]), int(match[2]))
    raise InputError(f"{argument}: {text!r} is no digit task; write one like 3, 0v1 (two different digits) or 3vrest")


def is_digit_task(text: str) -> bool:
    """Whether `parse_digit_task` reads it.

    >>> is_digit_task("3vrest"), is_digit_task("a.npz")
    (True, False)
    """
    try:
        parse_digit_task(text, "task")
    except InputError:
        return False
    return True


def _check_digit(value: int, argument: str) -> None:
    if value not in range(10):
        raise InputError(f"{argument}: needs a digit from 0 to 9, got {value!r}")


def _count(y: np.ndarray, digit: int) -> int:
    return int(np.count_nonzero(y == digit))


def _rows_a_side(kind: DigitTask, y: np.ndarray, rows: int | None) -> int:
    available = kind.available(y)
    if available == 0:
        raise InputError(f"y: has no images for {kind}; give a data set that holds all its digits")
    if rows is not None and not 1 <= rows <= available:
        raise InputError(f"rows: {kind} has {available} rows a side, got {rows}; ask for 1 to {available}")
    return available if rows is None else rows


def _two_sided(positive: np.ndarray, negative: np.ndarray) -> Task:
    y = np.concatenate([np.ones(len(positive)), -np.ones(len(negative))])
    return Task(np.concatenate([positive, negative]), y)
