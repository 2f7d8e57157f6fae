"""Records to JSON and back, by their type hints: what is read has the types of what was written.

Numbers that JSON has no word for are written as "NaN", "Infinity" and "-Infinity", so that they come back as what they were;
what is absent is null. Arrays are lists.
"""

import dataclasses
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import cattrs
import jax
import numpy as np
from cattrs.cols import (
    is_namedtuple,
    namedtuple_dict_structure_factory,
    namedtuple_dict_unstructure_factory,
)
from cattrs.gen import make_dict_structure_fn
from cattrs.preconf.json import make_converter
from cattrs.v import format_exception

from cimm_jax.errors import InputError, one_line

__all__ = ["T", "decode", "encode", "same"]

T = TypeVar("T")

_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(record: Any) -> Any:
    """What JSON can hold: dictionaries, lists, strings, numbers, booleans and None."""
    return _converter.unstructure(record)


def decode(kind: type[T], data: Any) -> T:
    """The record of a type from what `encode` made.

    Raises:
      InputError: if something is missing, surplus or of another type; the message names the place.
    """
    try:
        return _converter.structure(data, kind)
    except Exception as error:  # cattrs collects whatever the hooks raise into groups
        raise InputError(one_line(ValueError(cattrs.transform_error(error, format_exception=_said)[0]))) from error


def same(one: Any, other: Any) -> bool:
    """Whether two records say the same; a number that is none is the same as another."""
    return type(one) is type(other) and encode(one) == encode(other)


class _UnfitError(TypeError):
    """What stands at some place does not fit there; the text says why."""


def _said(error: BaseException, kind: type | None) -> str:
    return str(error) if isinstance(error, _UnfitError) else format_exception(error, kind)


def _write_float(value: float) -> float | str:
    value = float(value)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _read_float(value: Any, _: Any = float) -> float:
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _UnfitError(f"needs a number, got {type(value).__name__}")
    return float(value)


def _reader(kind: type) -> Any:
    def read(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise _UnfitError(f"needs {kind.__name__}, got {type(value).__name__}")
        return value

    return read


def _write_array(value: Any) -> Any:
    return _write_nested(np.asarray(value).tolist())


def _write_nested(value: Any) -> Any:
    if isinstance(value, list):
        return [_write_nested(item) for item in value]
    return _write_float(value) if isinstance(value, float) else value


def _read_array(value: Any, _: Any) -> np.ndarray:
    try:
        array = np.asarray(_read_nested(value))
    except ValueError as error:
        raise _UnfitError(f"needs an array of numbers ({one_line(error)})") from error
    if array.dtype.kind not in "biuf":
        raise _UnfitError(f"needs an array of numbers, got {array.dtype}")
    return array


def _read_nested(value: Any) -> Any:
    if isinstance(value, list):
        return [_read_nested(item) for item in value]
    return _WORDS[value] if isinstance(value, str) and value in _WORDS else value


def _is_number_or_word(kind: Any) -> bool:
    return kind == float | str


def _write_number_or_word(value: float | str) -> float | str:
    return value if isinstance(value, str) else _write_float(value)


def _read_number_or_word(value: Any, _: Any) -> float | str:
    return value if isinstance(value, str) and value not in _WORDS else _read_float(value)


def _write_anything(value: Any) -> Any:
    """Settings, whose types are the command line's."""
    if isinstance(value, dict):
        return {key: _write_anything(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_write_anything(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return _write_float(value) if isinstance(value, float) else value


def _record_reader(factory: Callable[..., Any], made: cattrs.Converter) -> Callable[[Any], Any]:
    """Readers of records that ask for every field: an older record that lacks one is refused, not filled up."""

    def of(kind: Any) -> Any:
        read, names = factory(kind, made), _names(kind)

        def strict(value: Any, _: Any) -> Any:
            if not isinstance(value, dict):
                raise _UnfitError(f"needs {kind.__name__}, got {type(value).__name__}")
            for fault, found in (("lacks", names - value.keys()), ("has an unknown", value.keys() - names)):
                if found:
                    raise _UnfitError(f"{fault} {min(found)}")
            return read(value, kind)

        return strict

    return of


def _names(kind: Any) -> set[str]:
    """Of the fields of a record type; empty for any other type."""
    if dataclasses.is_dataclass(kind):
        return {field.name for field in dataclasses.fields(kind)}
    return set(getattr(kind, "_fields", ()))


def _is_one_of_records(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) and all(map(_names, get_args(kind)))


def _alternatives_reader(made: cattrs.Converter) -> Callable[[Any, Any], Any]:
    """Reads the record that has most of the names that are there."""

    def read(value: Any, kind: Any) -> Any:
        given = set(value) if isinstance(value, dict) else set()
        return made.structure(value, max(get_args(kind), key=lambda of: len(given & _names(of))))

    return read


def _is_plain_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _tuple_reader(made: cattrs.Converter) -> Callable[[Any, Any], Any]:
    def read(value: Any, kind: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _UnfitError(f"needs a list, got {type(value).__name__}")
        kinds = get_args(kind)
        if kinds[1:] == (...,):
            return tuple(made.structure(value, list[kinds[0]]))
        if len(value) != len(kinds):
            raise _UnfitError(f"needs {len(kinds)} items, got {len(value)}")
        return tuple(map(made.structure, value, kinds))

    return read


def _make_converter() -> cattrs.Converter:
    made = make_converter(forbid_extra_keys=True)
    for array in (jax.Array, np.ndarray):
        made.register_unstructure_hook(array, _write_array)
        made.register_structure_hook(array, _read_array)
    made.register_unstructure_hook(float, _write_float)
    made.register_structure_hook(float, _read_float)
    for kind in (int, bool, str):
        made.register_structure_hook(kind, _reader(kind))
    made.register_unstructure_hook(Path, str)
    made.register_structure_hook(Path, lambda value, _: Path(_reader(str)(value, str)))
    made.register_unstructure_hook_func(lambda kind: kind is Any, _write_anything)
    made.register_unstructure_hook_factory(is_namedtuple, namedtuple_dict_unstructure_factory)
    made.register_unstructure_hook_func(_is_number_or_word, _write_number_or_word)
    made.register_structure_hook_func(_is_number_or_word, _read_number_or_word)
    made.register_structure_hook_func(_is_plain_tuple, _tuple_reader(made))
    made.register_structure_hook_factory(is_namedtuple, _record_reader(namedtuple_dict_structure_factory, made))
    made.register_structure_hook_factory(dataclasses.is_dataclass, _record_reader(make_dict_structure_fn, made))
    made.register_structure_hook_func(_is_one_of_records, _alternatives_reader(made))
    return made


_converter = _make_converter()
