"""The three kinds of task that images of digits make."""

import re
from dataclasses import dataclass

import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.tasks import Task


@dataclass(frozen=True)
class SingleDigit:
    """All images of one digit, all labelled +1, as in the paper's released code: only the covariance is of interest."""

    digit: int

    def available(self, y: np.ndarray) -> int:
        """How many rows each side of the task can have."""
        return int((y == self.digit).sum())

    def task(self, x: np.ndarray, y: np.ndarray, rows: int | None = None) -> Task:
        """The first `rows` images of the digit, all of them if None; x (rows, d), y (rows,)."""
        count = _count(self, y, rows)
        return Task(x[y == self.digit][:count], np.ones(count))


@dataclass(frozen=True)
class DigitVersus:
    """One digit, labelled +1, against another, labelled -1, balanced."""

    digit: int
    other: int

    def available(self, y: np.ndarray) -> int:
        """How many rows each side of the task can have."""
        return int(min((y == self.digit).sum(), (y == self.other).sum()))

    def task(self, x: np.ndarray, y: np.ndarray, rows: int | None = None) -> Task:
        """The first `rows` images of each digit, as many as the rarer one has if None; x (2 rows, d), y (2 rows,)."""
        count = _count(self, y, rows)
        return _balanced(x[y == self.digit][:count], x[y == self.other][:count])


@dataclass(frozen=True)
class DigitVersusRest:
    """One digit, labelled +1, against an equal number of the other nine, labelled -1 and drawn evenly from them."""

    digit: int

    def available(self, y: np.ndarray) -> int:
        """How many rows each side of the task can have."""
        return int(min((y == self.digit).sum(), 9 * min((y == other).sum() for other in range(10))))

    def task(self, x: np.ndarray, y: np.ndarray, rows: int | None = None) -> Task:
        """`rows` images of each side, as many as there are if None; x (2 rows, d), y (2 rows,)."""
        count = _count(self, y, rows)
        # Take the first image of each other digit, then the second of each, and so on.
        others = [np.flatnonzero(y == other) for other in range(10) if other != self.digit]
        turns = np.stack([indices[: min(map(len, others))] for indices in others]).T.ravel()
        return _balanced(x[y == self.digit][:count], x[turns[:count]])


DigitTask = SingleDigit | DigitVersus | DigitVersusRest


def parse_digit_task(text: str, argument: str) -> DigitTask:
    """Reads "3" (images of one digit), "0v1" (one digit against another) or "3vrest" (against all others).

    Raises:
      InputError: naming `argument`, if the text is none of these.
    """
    if match := re.fullmatch(r"(\d)", text):
        return SingleDigit(int(match[1]))
    if match := re.fullmatch(r"(\d)vrest", text):
        return DigitVersusRest(int(match[1]))
    if (match := re.fullmatch(r"(\d)v(\d)", text)) and match[1] != match[2]:
        return DigitVersus(int(match[1]), int(match[2]))
    raise InputError(f"{argument}: {text!r} is no digit task; write 3, 0v1 or 3vrest")


def _count(kind: DigitTask, y: np.ndarray, rows: int | None) -> int:
    available = kind.available(y)
    if rows is not None and not 1 <= rows <= available:
        raise InputError(f"rows: {kind} has {available} rows a side, asked for {rows}; ask for 1 to {available}")
    return available if rows is None else rows


def _balanced(positive: np.ndarray, negative: np.ndarray) -> Task:
    y = np.concatenate([np.ones(len(positive)), -np.ones(len(negative))])
    return Task(np.concatenate([positive, negative]), y)
