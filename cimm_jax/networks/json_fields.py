"""Fields of a publisher's JSON file, each checked when it is read: anybody may have written it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cimm_jax.errors import InputError, one_line
from cimm_jax.files import read_regular

__all__ = ["MOST", "MOST_BYTES", "MOST_LAYERS", "MOST_LENGTH", "MOST_PIXELS", "Fields", "read_fields"]

MOST_BYTES = 1 << 24
"""Of a file; the names of 21,841 classes take one."""

MOST_LENGTH = 1 << 16
"""Of anything that is counted, such as channels."""

MOST_PIXELS = 2048
"""A side of an image; networks take 600 at most."""

MOST_LAYERS = 256
"""Of a network, or of a stage."""

MOST = 1e9
"""Of a number that is not counted."""


class Fields:
    """An object of a JSON file.

    Args:
      content: the object.
      where: what messages call it, such as the file's path.
    """

    def __init__(self, content: Mapping[str, Any], where: object):
        self._content, self.where = content, where

    def __contains__(self, name: str) -> bool:
        return self._content.get(name) is not None

    @property
    def content(self) -> dict[str, Any]:
        """All that is there, unchecked."""
        return dict(self._content)

    def inner(self, name: str) -> "Fields":
        """An object in it; empty if there is none."""
        value = self._content.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.unfit(name, "an object")
        return Fields(value or {}, f"{name} in {self.where}")

    def raw(self, name: str) -> Any:
        """Whatever is there; None if nothing is."""
        return self._content.get(name)

    def count(self, name: str, default: int | None = None, *, most: int = MOST_LENGTH) -> int:
        """A whole number from 1 to `most`; without a default it must be there."""
        return self._one(name, default, lambda value: type(value) is int and 1 <= value <= most, f"1 to {most}")

    def counts(
        self, name: str, default: Sequence[int] | None = None, *, least: int = 1, most: int = MOST_LENGTH
    ) -> tuple[int, ...]:
        """Several of them, from `least` to `most`."""

        def fits(value: Any) -> bool:
            numbers = isinstance(value, list | tuple) and len(value) <= MOST_LAYERS
            return numbers and all(type(item) is int and least <= item <= most for item in value)

        return tuple(self._one(name, default, fits, f"whole numbers from {least} to {most}"))

    def side(self, name: str, default: int | None = None) -> int:
        """A length in pixels, written as one number, or as two that are the same."""
        value = self._content.get(name)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            return Fields({name: value[0]}, self.where).count(name, most=MOST_PIXELS)
        return self.count(name, default, most=MOST_PIXELS)

    def number(self, name: str, default: float | None = None) -> float:
        """A number from 0 to `MOST`."""
        return float(self._one(name, default, _is_number, f"a number from 0 to {MOST:g}"))

    def numbers(self, name: str, length: int, default: Sequence[float] | None = None) -> tuple[float, ...]:
        """So many of them."""

        def fits(value: Any) -> bool:
            return isinstance(value, list | tuple) and len(value) == length and all(map(_is_number, value))

        return tuple(map(float, self._one(name, default, fits, f"{length} numbers from 0 to {MOST:g}")))

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return self._one(name, default, lambda value: isinstance(value, bool), "true or false")

    def word(self, name: str, known: Sequence[str], default: str | None = None) -> str:
        """One of these words."""
        return self._one(name, default, lambda value: isinstance(value, str) and value in known, " or ".join(known))

    def unfit(self, name: str, wanted: str) -> InputError:
        """What to raise for a field."""
        value = self._content.get(name)
        got = "nothing" if value is None else repr(value)[:100]
        return InputError(f"model: {self.where} has {got} as {name}, which needs {wanted}")

    def _one(self, name: str, default: Any, fits: Callable[[Any], bool], wanted: str) -> Any:
        value = self._content.get(name)
        if value is None and default is not None:
            return default
        if not fits(value):
            raise self.unfit(name, wanted)
        return value


def read_fields(path: Path, *, cure: str) -> Fields:
    """The object that a JSON file is.

    Raises:
      InputError: if it cannot be read, or is none.
    """
    content = read_regular(path, "model", most=MOST_BYTES, cure=cure)
    try:
        found = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"model: {path} is no JSON ({one_line(error)}); {cure}") from error
    if not isinstance(found, dict):
        raise InputError(f"model: {path} is no JSON object; {cure}")
    return Fields(found, path)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST
