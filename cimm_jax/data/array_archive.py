"""NumPy's .npz files: what each array is said to be is looked at before memory is given for it."""

import io
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from cimm_jax.errors import InputError, few, one_line
from cimm_jax.files import open_regular

__all__ = ["MOST_BYTES", "MOST_DIRECTORY_BYTES", "Expected", "described_arrays", "read_arrays"]

MOST_BYTES = 1 << 30
"""Of a file; all of CIFAR-10 has 184 million bytes."""

MOST_DIRECTORY_BYTES = 1 << 20
"""Of the list of members at the end, which is read whole; one of four arrays has 200 bytes."""

_END = struct.Struct("<12sI6s")
"""What an archive ends with: a mark and counts, the size of the list of members, where it begins, and how long a comment is."""
_END_MARK, _LARGE_MARK, _LONGEST_COMMENT = b"PK\5\6", b"PK\6\7", 1 << 16

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Expected:
    """What an array must be.

    Attributes:
      kinds: NumPy's letters of the dtypes that it may have.
      shape: where None is any length, which only the first axis may have.
      described: how messages say it.
      itemsize: bytes of an item; None is any.
    """

    kinds: str
    shape: tuple[int | None, ...]
    described: str
    itemsize: int | None = None

    def fits(self, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
        """Whether an array is that."""
        return (
            dtype.kind in self.kinds
            and self.itemsize in (None, dtype.itemsize)
            and len(shape) == len(self.shape)
            and all(wanted in (None, length) for wanted, length in zip(self.shape, shape, strict=True))
        )


def described_arrays(
    path: Path, argument: str, *, most_bytes: int = MOST_BYTES
) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """The dtype and the shape of every array of an .npz file by name; no array is read.

    Args:
      path: of the file.
      argument: what messages call it.
      most_bytes: that the file may have.

    Raises:
      InputError: if the file cannot be read or is damaged.
    """
    with _opened(path, argument, most_bytes) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return {name: _described(archive, name) for name in names}


def read_arrays(
    path: Path, argument: str, expected: Mapping[str, Expected], *, most_rows: int, most_bytes: int = MOST_BYTES
) -> dict[str, np.ndarray]:
    """Arrays of an .npz file by name.

    Args:
      path: of the file.
      argument: what messages call it.
      expected: what each of them must be, by name; others are left unread.
      most_rows: the greatest length of a first axis.
      most_bytes: that the file may have.

    Raises:
      InputError: if the file cannot be read, is damaged, lacks an array, or one is another than expected.
    """
    with _opened(path, argument, most_bytes, few(list(expected))) as archive:
        return {name: _array(archive, name, wanted, most_rows) for name, wanted in expected.items()}


@contextmanager
def _opened(path: Path, argument: str, most_bytes: int, needed: str = "arrays") -> Iterator[zipfile.ZipFile]:
    """The file as an archive; whatever its damage raises within becomes one line."""
    with open_regular(path, argument, most=most_bytes, cure="give an .npz file") as file:
        try:
            _check_directory(file)
            with zipfile.ZipFile(file) as archive:
                yield archive
        except _OtherError as error:
            raise InputError(f"{argument}: {path} {error}; it needs {needed}") from error
        except Exception as error:  # zipfile and NumPy raise whatever the damage makes them
            raise InputError(
                f"{argument}: {path} is no whole .npz file ({one_line(error)}); download it again"
            ) from error


class _OtherError(Exception):
    """The file is whole, but holds something else; the text says what."""


def _check_directory(file: io.BufferedReader) -> None:
    """Raises an error if the list of members is larger than is read; zipfile makes an object of every entry."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _END.size - _LONGEST_COMMENT))
    tail = file.read()
    # As zipfile looks for it: at the very end, or before a comment.
    place = len(tail) - _END.size
    if not (place >= 0 and tail[place:].startswith(_END_MARK) and tail.endswith(b"\0\0")):
        place = tail.rfind(_END_MARK)
    if not 0 <= place <= len(tail) - _END.size:
        raise ValueError("no list of members at its end")
    _, directory_bytes, _ = _END.unpack_from(tail, place)
    if directory_bytes > MOST_DIRECTORY_BYTES or tail[max(0, place - 20) : place].startswith(_LARGE_MARK):
        raise _OtherError(f"has a list of members of which at most {MOST_DIRECTORY_BYTES:,} bytes are read")


def _array(archive: zipfile.ZipFile, name: str, expected: Expected, most_rows: int) -> np.ndarray:
    if f"{name}.npy" not in archive.namelist():
        raise _OtherError(f"lacks {name}")
    dtype, shape = _described(archive, name)
    if not expected.fits(dtype, shape):
        raise _OtherError(f"has {dtype} {shape} as {name}, which needs {expected.described}")
    if shape[0] > most_rows:
        raise _OtherError(f"has {shape[0]:,} rows in {name}, of which at most {most_rows:,} are read")
    with archive.open(f"{name}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        # zipfile compares the check value where the member ends.
        if member.read(1):
            raise ValueError(f"{name} is longer than its header says")
    return array


def _described(archive: zipfile.ZipFile, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    with archive.open(f"{name}.npy") as member:
        return _header(member)


def _header(member: IO[bytes]) -> tuple[np.dtype, tuple[int, ...]]:
    version = np.lib.format.read_magic(member)
    if version not in _HEADERS:
        raise ValueError(f"version {version[0]}.{version[1]} of NumPy's format")
    shape, _, dtype = _HEADERS[version](member)
    return dtype, shape
