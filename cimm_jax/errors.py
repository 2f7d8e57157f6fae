"""The one exception that bad input raises, so that the command line can turn it into one line and exit status 2."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["LONGEST", "InputError", "check_count", "few", "naming", "one_line", "printable"]

LONGEST = 10_000
"""Characters of a message: names in a file may be as long as its writer likes."""


def printable(text: str) -> str:
    """Text on one line, without the control characters that move a terminal's cursor; every space is an ordinary one.

    Whatever came from a file passes through here before people see it: names, keys and reasons are anybody's text.
    """
    return "".join(character if character.isprintable() else " " for character in text)


class InputError(ValueError):
    """An argument, a file or a setting cannot be used.

    The message is one line, whatever it quotes: it names the argument, gives the value or shape that was got, and says what to
    do. Of one that is longer than `LONGEST`, the middle is left out.
    """

    def __init__(self, message: str):
        super().__init__(_shortened(printable(message)))


def one_line(error: BaseException) -> str:
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


@contextmanager
def naming(argument: str, called: str) -> Iterator[None]:
    """What the functions within call `called` is named as the caller's argument, if bad input is about that."""
    try:
        yield
    except InputError as error:
        message, prefix = str(error), f"{called}: "
        if not message.startswith(prefix):
            raise
        raise InputError(f"{argument}: {message.removeprefix(prefix)}") from error


def _shortened(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} ... {text[-half:]}"
