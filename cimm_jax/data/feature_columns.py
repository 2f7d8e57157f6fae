"""Features in files of columns with names: .csv and .parquet. Every column but the labels' is a feature, or one holds lists."""

import csv
import io
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimm_jax.data.feature_table import FeatureParts, make_table
from cimm_jax.errors import InputError, few, one_line
from cimm_jax.files import open_regular

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LABEL_COLUMNS", "MOST_BYTES", "read_csv", "read_parquet"]

LABEL_COLUMNS = ("y", "label")
"""The first of these that is there holds the labels, unless somebody names another."""

MOST_BYTES = 1 << 34
"""Of a file; all of it is held in memory at once."""

_INDEX = "__index_level_"
"""How pandas begins the name of a column that holds a frame's index, which is no feature."""


def read_csv(path: Path, argument: str, label: str | None) -> FeatureParts:
    """A line of names, then a row a line; text in UTF-8, separated by commas.

    Args:
      path: of the file.
      argument: what messages call it.
      label: the column of labels; None is one of `LABEL_COLUMNS`, if it is there.

    Raises:
      InputError: if the file cannot be read, has no line of names, lacks the label, or has text where numbers are expected,
        with its row and column.
    """
    where = f"{argument}: {path}"
    with open_regular(path, argument, most=MOST_BYTES, cure="save it again") as file:
        try:
            lines = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), strict=True)
            header = next(lines, [])
            _check_header(header, where)
            chosen = _label_of(header, label, where)
            columns = tuple(name for name in header if name != chosen)
            place = None if chosen is None else header.index(chosen)
            numbers, labels = _rows(lines, columns, place, where)
        except (csv.Error, UnicodeError) as error:
            raise InputError(f"{where} is no whole .csv file in UTF-8 ({one_line(error)}); save it again") from error
    x = np.asarray(numbers).reshape(-1, len(columns)) if columns else np.empty((0, 0))
    y = None if place is None else _whole_or_text(labels)
    return FeatureParts(make_table(x, y, where, columns=columns), None)


def read_parquet(path: Path, argument: str, label: str | None) -> FeatureParts:
    """Columns of numbers, or one column of lists of one length; read with pyarrow, an optional dependency.

    Arguments as in `read_csv`.

    Raises:
      InputError: as `read_csv`, if pyarrow is not installed, or a cell is empty.
    """
    where = f"{argument}: {path}"
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(f"{where} needs pyarrow to be read; pip install 'cimm_jax[parquet]'") from error
    with open_regular(path, argument, most=MOST_BYTES, cure="save it again") as file:
        try:
            table = pq.ParquetFile(file).read()
        except Exception as error:  # pyarrow raises whatever the damage makes it
            raise InputError(f"{where} is no whole .parquet file ({one_line(error)}); save it again") from error
    names = [name for name in table.column_names if not name.startswith(_INDEX)]
    _check_names(names, where)
    chosen = _label_of(names, label, where)
    columns = tuple(name for name in names if name != chosen)
    y = None if chosen is None else _labels(table.column(chosen), chosen, where)
    if len(columns) == 1 and _is_list(table.column(columns[0])):
        return FeatureParts(make_table(_lists(table.column(columns[0]), columns[0], where), y, where), None)
    x = [_numbers(table.column(name), name, where) for name in columns]
    return FeatureParts(make_table(np.stack(x, axis=1) if x else np.empty((0, 0)), y, where, columns=columns), None)


def _check_header(header: Sequence[str], where: str) -> None:
    if not header:
        raise InputError(f"{where} is empty; give a line of names, and then a row a line")
    if all(map(_is_number, header)):
        raise InputError(f"{where} begins with numbers; give a first line with the names of the columns")
    _check_names(header, where)


def _check_names(names: Sequence[str], where: str) -> None:
    if "" in names:
        raise InputError(
            f"{where} has no name for column {list(names).index('') + 1}; leave it out if it numbers the rows, or name it"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{where} has two columns called {twice[0]}; rename one")


def _label_of(names: Sequence[str], label: str | None, where: str) -> str | None:
    if label is None:
        return next((name for name in LABEL_COLUMNS if name in names), None)
    if label not in names:
        raise InputError(f"label: {where} has no column {label}; it has {few(names, 20)}")
    return label


def _rows(lines, columns: Sequence[str], place: int | None, where: str) -> tuple[array, list[str]]:
    """All features, row by row, and the labels."""
    numbers, labels, width = array("d"), [], len(columns) + (place is not None)
    for row, cells in enumerate(lines, 1):
        if not cells:
            continue  # an empty line, such as the last
        if len(cells) != width:
            raise InputError(f"{where} has {len(cells)} cells in row {row}, and {width} columns; give a cell a column")
        if place is not None:
            labels.append(cells.pop(place))
        try:
            numbers.extend(map(float, cells))
        except ValueError as error:
            wrong = next(number for number, cell in enumerate(cells) if not _is_number(cell))
            raise InputError(_no_number(where, row, columns[wrong], cells[wrong])) from error
    return numbers, labels


def _no_number(where: str, row: int, column: str, cell: object) -> str:
    return (
        f"{where} has {cell!r} in row {row}, column {column}, where a number is expected; name the column of labels with "
        "--label, and leave out what is no feature"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _whole_or_text(labels: Sequence[str]) -> np.ndarray:
    """Labels as numbers if every one is, and as text if not."""
    if all(map(_is_number, labels)):
        return np.asarray(labels, np.float64)
    return np.asarray(labels, np.str_)


def _labels(column: "pa.ChunkedArray", name: str, where: str) -> np.ndarray:
    _check_full(column, name, where)
    values = column.to_pylist()
    if all(isinstance(value, str) for value in values):
        return np.asarray(values, np.str_)
    if all(isinstance(value, bool | int | float) for value in values):
        return np.asarray(values)
    raise InputError(f"label: {where} has {column.type} in column {name}; give numbers or text")


def _numbers(column: "pa.ChunkedArray", name: str, where: str) -> np.ndarray:
    import pyarrow.types as of

    kind = column.type
    if not (of.is_floating(kind) or of.is_integer(kind) or of.is_boolean(kind)):
        row, value = next(((n, v) for n, v in enumerate(column.to_pylist(), 1) if v is not None), (1, None))
        raise InputError(_no_number(where, row, name, value))
    _check_full(column, name, where)
    return column.to_numpy()


def _is_list(column: "pa.ChunkedArray") -> bool:
    import pyarrow.types as of

    kind = column.type
    return of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind)


def _lists(column: "pa.ChunkedArray", name: str, where: str) -> np.ndarray:
    """A column of lists as an array of shape (N, d)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    _check_full(column, name, where)
    lengths = np.asarray(pc.call_function("list_value_length", [column]).to_numpy())
    if len(set(lengths.tolist())) != 1:
        row = int(np.flatnonzero(lengths != lengths[0])[0]) + 1 if len(lengths) else 0
        raise InputError(f"{where} has lists of several lengths in column {name}, such as row {row}; make them equal")
    values = pc.call_function("list_flatten", [column])
    return _numbers(pa.chunked_array(values), f"{name}, flattened,", where).reshape(len(lengths), -1)


def _check_full(column: "pa.ChunkedArray", name: str, where: str) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0]) + 1
        raise InputError(f"{where} has nothing in row {row}, column {name}; fill such places, or leave their rows out")
