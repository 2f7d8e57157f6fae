"""Features as a file holds them: numbers by row and column, perhaps a label a row; what is no number is named by its place."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cimm_jax.data.row_view import LazyRows
from cimm_jax.errors import InputError, few
from cimm_jax.tasks import as_floating

__all__ = ["FeatureParts", "FeatureTable", "check_alike", "check_same_features", "concatenated", "make_table"]

_ROWS_AT_ONCE = 1 << 14
"""Looked at for numbers that are not finite: a memory-mapped file need not fit into memory for it."""


class FeatureTable(NamedTuple):
    """Rows of features.

    Attributes:
      x: shape (N, d), float32 or float64, in a mapped file where the format allows; every number is finite.
      labels: shape (N,), whole numbers, floats or strings; None if there are none.
      columns: names of the features; None where the format has none.
      where: what messages call it: the argument and the file.
    """

    x: LazyRows
    labels: np.ndarray | None
    columns: tuple[str, ...] | None
    where: str


class FeatureParts(NamedTuple):
    """A file or folder.

    Attributes:
      train: the training part, or all there is.
      heldout: a held-out part of its own; None if it has none.
    """

    train: FeatureTable
    heldout: FeatureTable | None


def make_table(
    x: np.ndarray, labels: np.ndarray | None, where: str, *, columns: tuple[str, ...] | None = None
) -> FeatureTable:
    """Checked features; float16 and bfloat16 become float32, whole numbers float64.

    Args:
      x: real numbers of shape (N, d).
      labels: of shape (N,) or (N, 1), numbers or strings.
      where: what messages call both, as in "primary: a.npz".
      columns: names of the features.

    Raises:
      InputError: for other shapes or types, no rows or columns, or a number that is NaN or infinite, with its row and column.
    """
    if x.ndim != 2 or 0 in x.shape:
        raise InputError(f"{where} has features of shape {x.shape}; give (rows, features), at least one of each")
    dtype = np.dtype(np.float32)
    for number, read in enumerate(LazyRows([x], x.dtype).chunks(_ROWS_AT_ONCE)):
        chunk = np.asarray(as_floating(read, where))
        dtype, start = chunk.dtype, number * _ROWS_AT_ONCE
        if not (finite := np.isfinite(chunk)).all():
            row, column = np.argwhere(~finite)[0]
            name = f"column {column + 1}" if columns is None else f"column {columns[column]}"
            raise InputError(
                f"{where} has {chunk[row, column]} in row {start + row + 1}, {name} (counted from 1); fill such places, or "
                "leave them out"
            )
    rows = LazyRows([x], dtype)
    return FeatureTable(rows, None if labels is None else _checked_labels(labels, len(x), where), columns, where)


def concatenated(tables: Sequence[FeatureTable], where: str) -> FeatureTable:
    """All rows, one table after the other; raises `InputError` unless all have the same columns, and labels of one kind."""
    first, *others = tables
    if not others:
        return first._replace(where=where)
    for other in others:
        check_alike(first, other)
    labels = [table.labels for table in tables if table.labels is not None]
    rows = first.x.followed_by([table.x for table in others])
    return FeatureTable(rows, np.concatenate(labels) if labels else None, first.columns, where)


def check_alike(first: FeatureTable, other: FeatureTable) -> None:
    """Raises `InputError` unless two tables of one task have the same features, and labels of one kind or none."""
    check_same_features(first, other)
    kinds = [_kind_of_labels(table.labels) for table in (first, other)]
    if kinds[0] != kinds[1]:
        raise InputError(f"{other.where} has {kinds[1]} and {first.where} {kinds[0]}; make them alike")


def check_same_features(first: FeatureTable, other: FeatureTable) -> None:
    """Raises `InputError` unless two tables have as many features, of the same names where both have names."""
    if first.x.shape[1] != other.x.shape[1]:
        raise InputError(
            f"{other.where} has {other.x.shape[1]} features and {first.where} {first.x.shape[1]}; make them equal"
        )
    if first.columns is None or other.columns is None or first.columns == other.columns:
        return
    differing = [name for name in other.columns if name not in first.columns] or ["the same in another order"]
    raise InputError(f"{other.where} has other columns than {first.where}: {few(differing)}; make them equal")


def _kind_of_labels(labels: np.ndarray | None) -> str:
    return "no labels" if labels is None else "labels that are text" if labels.dtype.kind == "U" else "numeric labels"


def _checked_labels(labels: np.ndarray, rows: int, where: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (rows,):
        raise InputError(f"{where} has labels of shape {labels.shape} for {rows} rows; give one label a row, ({rows},)")
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind not in "biufU":
        raise InputError(
            f"{where} has {labels.dtype} labels; give whole numbers, text, or floats with --target regression"
        )
    return labels
