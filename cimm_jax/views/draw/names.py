"""Names in pictures."""

__all__ = ["LONGEST_NAME", "drawn_name"]

LONGEST_NAME = 32
"""Characters."""


def drawn_name(name: str) -> str:
    """A name, often that of a folder, as matplotlib draws it: one line, not too long, no mathematics, shown in legends."""
    name = " ".join(name.split())
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 11]}…{name[-10:]}"
    # A legend leaves out names that start with _.
    return (f" {name}" if name.startswith("_") else name).replace("$", r"\$")
