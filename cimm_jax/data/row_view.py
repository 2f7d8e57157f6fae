"""Rows of features where they lie, in memory or in a mapped file: some of them, in chunks, without a copy of all."""

import mmap
from collections.abc import Iterator, Sequence

import numpy as np

from cimm_jax.errors import InputError

__all__ = ["CHUNK", "LazyRows"]

CHUNK = 40_000
"""Rows that are read at once: of 1,024 features in float64, 320 MB."""


class LazyRows:
    """A matrix of numbers whose rows are read when they are asked for; `np.asarray` reads them all.

    Of a mapped file, pages that were read are given back at once: what is held in memory does not grow with the file.

    Attributes:
      dtype: of what is read, float32 or float64.
    """

    ndim = 2

    def __init__(self, arrays: Sequence[np.ndarray], dtype: np.dtype, chosen: np.ndarray | None = None):
        """Rows of arrays, one array after the other.

        Args:
          arrays: shape (N_i, d), of types that are converted to `dtype` without rounding.
          dtype: of what is read.
          chosen: places of the rows meant, counted over all arrays; None is all of them.
        """
        self._arrays, self.dtype, self._chosen = tuple(arrays), np.dtype(dtype), chosen
        self._starts = np.cumsum([0, *map(len, self._arrays)])

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, features)."""
        return len(self), self._arrays[0].shape[1]

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._chosen is None else len(self._chosen)

    def __iter__(self) -> Iterator[np.ndarray]:
        for chunk in self.chunks():
            yield from chunk

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All rows, of `dtype` or the one given; raises `ValueError` if none may be copied."""
        if copy is False:
            raise ValueError("rows that are read when they are asked for are always copied")
        made = np.empty(self.shape, self.dtype if dtype is None else dtype)
        for start in range(0, len(self), CHUNK):
            made[start : start + CHUNK] = self.read(start, start + CHUNK)
        return made

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows from one place to before another, shape (n, d); a copy."""
        stop = min(stop, len(self))
        places = np.arange(start, stop) if self._chosen is None else self._chosen[start:stop]
        made = np.empty((len(places), self.shape[1]), self.dtype)
        for array, first, last in zip(self._arrays, self._starts, self._starts[1:], strict=False):
            here = (places >= first) & (places < last)
            if here.any():
                made[here] = array[places[here] - first]
                _give_back(array)
        return made

    def chunks(self, size: int = CHUNK) -> Iterator[np.ndarray]:
        """All rows in order, so many at a time, fewer at last."""
        for start in range(0, len(self), size):
            yield self.read(start, start + size)

    def choose(self, rows: np.ndarray) -> "LazyRows":
        """Some rows, in this order; nothing is read."""
        places = rows if self._chosen is None else self._chosen[rows]
        return LazyRows(self._arrays, self.dtype, places)

    def followed_by(self, others: Sequence["LazyRows"]) -> "LazyRows":
        """These rows and others after them, in the widest of their types; raises `InputError` if some were chosen."""
        if any(rows._chosen is not None for rows in (self, *others)):
            raise InputError("rows: some of them were chosen; put them together first")
        arrays = [array for rows in (self, *others) for array in rows._arrays]
        return LazyRows(arrays, np.result_type(self.dtype, *(rows.dtype for rows in others)))


def _give_back(array: np.ndarray) -> None:
    """Lets go of the pages of a mapped file; they are read again when they are needed."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)
