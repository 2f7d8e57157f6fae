"""The one exception that bad input raises, so that the command line can turn it into one line and exit status 2."""

from collections.abc import Sequence

__all__ = ["InputError", "check_count", "few", "one_line"]


class InputError(ValueError):
    """An argument, a file or a setting cannot be used.

    The message is one line: it names the argument, gives the value or shape that was got, and says what to do.
    """


def one_line(error: Exception) -> str:
    """The first line of the error's text, or the name of its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def few(names: Sequence[str], shown: int = 5) -> str:
    """The first names and how many more there are; "none" if there are none."""
    listed = ", ".join(names[:shown])
    return f"{listed} and {len(names) - shown} more" if len(names) > shown else listed or "none"


def check_count(value: int, argument: str) -> None:
    """Raises `InputError` unless the value is at least 1."""
    if value < 1:
        raise InputError(f"{argument}: needs at least 1, got {value}")
