"""Safetensors files: their header is read and checked first, and a tensor only when it is asked for.

The library that writes them reads them, too, but takes the last of two tensors of one name, knows no bound, and copies the
whole file to look at one of its tensors.
"""

import io
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from cimm_jax.errors import InputError
from cimm_jax.files import open_regular

__all__ = [
    "FLOATS",
    "MOST_AXES",
    "MOST_HEADER_BYTES",
    "MOST_WEIGHTS_BYTES",
    "NUMBERS",
    "Described",
    "TensorFile",
    "open_tensors",
    "tensors_to_bytes",
]

MOST_WEIGHTS_BYTES = 1 << 32
"""Of a file with the weights of a network; the largest here has 350 million, and twice as many in float64."""

MOST_HEADER_BYTES = 1 << 24
"""A hundred thousand tensors; the networks here have three hundred."""

MOST_AXES = 32
"""Of a tensor; NumPy has as few."""

FLOATS = {"F16": np.float16, "BF16": jnp.bfloat16, "F32": np.float32, "F64": np.float64}
"""Real numbers, by what safetensors calls them."""

_WHOLE = {"BOOL": np.bool_} | {
    f"{sign}{8 * size}": f"{kind}{size}" for sign, kind in ("Ii", "Uu") for size in (1, 2, 4, 8)
}
NUMBERS = {name: np.dtype(of) for name, of in {**FLOATS, **_WHOLE}.items()}
"""All numbers that are read; safetensors writes them with the least significant byte first."""

_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
_METADATA = "__metadata__"


class Described(NamedTuple):
    """What a header says of a tensor.

    Attributes:
      dtype: as safetensors calls it, such as "F32".
      shape: its axes.
      start: where its bytes begin, behind the header.
      stop: where they end.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class TensorFile:
    """An open file.

    Attributes:
      tensors: what is in it, by name.
      metadata: texts that its writer added, by name; anybody's.
    """

    def __init__(self, file: io.BufferedReader):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._file, self.tensors, self.metadata, self._data = file, *_header(file, size)

    def array(self, name: str) -> np.ndarray:
        """A tensor of one of the dtypes in `NUMBERS`."""
        dtype, shape, start, stop = self.tensors[name]
        self._file.seek(self._data + start)
        content = self._file.read(stop - start)
        if len(content) < stop - start:
            raise OSError(f"{name} is cut short")
        return np.frombuffer(content, NUMBERS[dtype]).reshape(shape)


@contextmanager
def open_tensors(path: Path, argument: str, *, most: int, cure: str) -> Iterator[TensorFile]:
    """Opens a safetensors file.

    Args:
      path: of the file.
      argument: what messages call it.
      most: bytes that it may have.
      cure: what messages advise.

    Raises:
      InputError: if it cannot be read, is too large, or no whole safetensors file.
    """
    with open_regular(path, argument, most=most, cure=cure) as file:
        try:
            opened = TensorFile(file)
        except _DamagedError as error:
            raise InputError(f"{argument}: {path} is no whole safetensors file ({error}); {cure}") from error
        yield opened


def tensors_to_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file, the same for the same content: the library writes metadata in another order each time.

    Args:
      tensors: contiguous arrays by name.
      metadata: texts by name; PyTorch's libraries want "format" to be "pt".
    """
    content = save(dict(tensors))
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps({_METADATA: dict(sorted(metadata.items())), **json.loads(content[8:end])}).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(content)[end:]))


class _DamagedError(Exception):
    """The file is none; the text says why."""


def _header(file: io.BufferedReader, size: int) -> tuple[dict[str, Described], dict[str, str], int]:
    """What the header says of tensors and besides, and where it ends."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise _DamagedError(f"{size} bytes are too few for its header")
    if length > MOST_HEADER_BYTES:
        raise _DamagedError(f"its header has {length:,} bytes, of which at most {MOST_HEADER_BYTES:,} are read")
    try:
        content = json.loads(file.read(length).decode(), object_pairs_hook=_once_each)
    except (ValueError, RecursionError) as error:
        raise _DamagedError(f"its header is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise _DamagedError("its header names no tensors")
    metadata = content.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _DamagedError("its metadata are no texts by name")
    found = {name: _described(name, of) for name, of in content.items()}
    end = 0
    for name, of in sorted(found.items(), key=lambda item: item[1].start):
        if of.start != end:
            raise _DamagedError(f"{name} begins at byte {of.start}, where the one before it ends at {end}")
        end = of.stop
    if 8 + length + end != size:
        raise _DamagedError(f"it has {size:,} bytes, and its header tells of {8 + length + end:,}")
    return found, metadata, 8 + length


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise _DamagedError(f"its header names {twice} twice")
    return found


def _described(name: str, of: Any) -> Described:
    try:
        dtype, shape, (start, stop) = of["dtype"], of["shape"], of["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise _DamagedError(f"its header does not say dtype, shape and data_offsets of {name}") from error
    if not (isinstance(dtype, str) and _are_counts(shape) and _are_counts([start, stop]) and len(shape) <= MOST_AXES):
        raise _DamagedError(f"what its header says of {name} is no dtype, shape and data_offsets")
    item = _BYTES.get(dtype)
    if start > stop or (item is not None and stop - start != item * math.prod(shape)):
        raise _DamagedError(f"{name} has {stop - start} bytes, which are not {dtype} {tuple(shape)}")
    return Described(dtype, tuple(shape), start, stop)


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 62 for item in value)
