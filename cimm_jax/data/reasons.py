"""Why a library failed, short enough for a one-line message."""


def one_line(error: Exception) -> str:
    """The first line of the error's text, or the name of its class if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
