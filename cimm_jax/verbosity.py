"""How much is said on the way: what `--quiet` and `--verbose` ask for, where whoever speaks can look it up."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import IntEnum

__all__ = ["Level", "at_level", "level"]


class Level(IntEnum):
    """How much is said; errors and warnings always are.

    Attributes:
      QUIET: no progress and no tables.
      NORMAL: both.
      VERBOSE: also what is run on what, and where in the code an error came from.
    """

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


_level: ContextVar[Level] = ContextVar("level", default=Level.NORMAL)


def level() -> Level:
    """How much is to be said now."""
    return _level.get()


@contextmanager
def at_level(asked: Level) -> Iterator[None]:
    """What runs within says this much."""
    former = _level.set(asked)
    try:
        yield
    finally:
        _level.reset(former)
