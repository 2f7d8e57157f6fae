"""Parts of one-line messages."""

from collections.abc import Sequence


def one_line(error: Exception) -> str:
    """The first line of the error's text, or the name of its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def few(names: Sequence[str], shown: int = 5) -> str:
    """The first names and how many more there are; "none" if there are none."""
    listed = ", ".join(names[:shown])
    return f"{listed} and {len(names) - shown} more" if len(names) > shown else listed or "none"
