"""House Prices: the paper's regression pair, lot area as the primary task and sale price as the harmful one.

Preprocessing as in the paper's released code: the houses are split by MSZoning (all zones but RL, 309 houses, are the
primary table D1; zone RL, 1,151 houses, the harmful table D2), missing entries become 0, columns with words are
numbered in sorted order, and each table's features and target are standardised by that table's own mean and standard
deviation, over all its rows. The first 200 houses are for training, the next 100 held out. Every column but the two
targets is a feature, Id and MSZoning too: 79 of them.

The released code stores the result in float32. Doing so leaves the condition numbers of both tasks as they are to five
digits, by Eq. 1 and by the released code's rule, so float64 is kept here.
"""

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from cimm_jax.errors import InputError, few, one_line
from cimm_jax.files import read_regular
from cimm_jax.tasks import SplitPair, SplitTask, Task, TaskPair

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "BENIGN_HELDOUT",
    "BENIGN_TARGET",
    "BENIGN_TRAIN",
    "COLUMNS",
    "HARMFUL_HOUSES",
    "HARMFUL_TARGET",
    "HELDOUT",
    "LARGEST",
    "MOST_BYTES",
    "OPENML_ID",
    "PRIMARY_HOUSES",
    "PRIMARY_TARGET",
    "TRAIN",
    "ZONE",
    "Table",
    "load_benign_houses",
    "load_house_prices",
]

PRIMARY_TARGET, HARMFUL_TARGET, ZONE = "LotArea", "SalePrice", "MSZoning"
COLUMNS, PRIMARY_HOUSES, HARMFUL_HOUSES = 81, 309, 1151
TRAIN, HELDOUT = slice(0, 200), slice(200, 300)
BENIGN_TARGET = "OverallQual"
BENIGN_TRAIN, BENIGN_HELDOUT = slice(300, 500), slice(500, 600)
OPENML_ID = 42165
MOST_BYTES = 1 << 24
"""Of a file; the whole table has half a million."""

LARGEST = 1e100
"""Of a number: deviations are made of squares, and these must be numbers too."""


class Table(NamedTuple):
    """Houses as they were read.

    Attributes:
      frame: one row a house, words and numbers, missing entries as pandas marks them.
      source: how a message names where it came from.
    """

    frame: "pd.DataFrame"
    source: str


def load_house_prices(data_dir: Path | None = None) -> SplitPair:
    """The pair: x of shape (200, 79) for training and (100, 79) held out, y of shape (200,) and (100,), float64.

    Args:
      data_dir: folder with D1.csv and D2.csv, or else train.csv of the Kaggle competition; None asks OpenML.

    Raises:
      InputError: if the files are missing, damaged or not the original tables, or OpenML cannot be reached.
    """
    first, second = _tables(data_dir)
    primary = _standardised(first, PRIMARY_TARGET, PRIMARY_HOUSES)
    harmful = _standardised(second, HARMFUL_TARGET, HARMFUL_HOUSES)

    def pair(rows: slice) -> TaskPair:
        return TaskPair(*(Task(x[rows], y[rows]) for x, y in (primary, harmful)))

    return SplitPair(train=pair(TRAIN), heldout=pair(HELDOUT))


def load_benign_houses(data_dir: Path | None = None) -> SplitTask:
    """A third task that neither side of the pair saw: the overall quality of the next 200 and 100 houses of zone RL.

    Its own column is zero among the 79 features. Arguments and errors as in `load_house_prices`.
    """
    _, table = _tables(data_dir)
    if BENIGN_TARGET not in table.frame:
        raise InputError(f"{table.source} has no column {BENIGN_TARGET}; use the original table")
    x, _ = _standardised(table, HARMFUL_TARGET, HARMFUL_HOUSES)
    column = [name for name in table.frame.columns if name not in (PRIMARY_TARGET, HARMFUL_TARGET)].index(BENIGN_TARGET)
    y = x[:, column].copy()
    x[:, column] = 0
    return SplitTask(*(Task(x[rows], y[rows]) for rows in (BENIGN_TRAIN, BENIGN_HELDOUT)))


def _tables(data_dir: Path | None) -> tuple[Table, Table]:
    first, second = _by_zone(_from_openml()) if data_dir is None else _from_folder(data_dir)
    if list(first.frame.columns) != list(second.frame.columns):
        raise InputError(f"{second.source} has other columns than D1.csv, or in another order; use the original tables")
    return first, second


def _from_folder(folder: Path) -> tuple[Table, Table]:
    first, second, whole = (folder / name for name in ("D1.csv", "D2.csv", "train.csv"))
    if os.path.exists(first) and os.path.exists(second):
        return _read(first), _read(second)
    if os.path.exists(whole):
        return _by_zone(_read(whole))
    raise InputError(
        f"--data-dir: {folder} has neither D1.csv and D2.csv nor train.csv; put the House Prices tables there"
    )


def _read(path: Path) -> Table:
    import pandas as pd

    content = read_regular(path, "--data-dir", most=MOST_BYTES, cure="download it again")
    try:
        with warnings.catch_warnings():
            # Of rows that are longer than the header, the surplus would be left out with no more than this warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(io.BytesIO(content), dtype=str, index_col=False)
    except Exception as error:  # the parser raises whatever the damage makes it
        raise InputError(f"--data-dir: {path} cannot be read ({one_line(error)}); download it again") from error
    return _with_columns(Table(frame, f"--data-dir: {path}"))


def _from_openml() -> Table:
    import pandas as pd
    from sklearn.datasets import fetch_openml

    try:
        bunch: Any = fetch_openml(data_id=OPENML_ID, as_frame=True)
        # OpenML keeps the word "None", which pandas takes for missing in CSV files: by way of CSV both are read alike.
        frame = pd.read_csv(io.StringIO(bunch.frame.to_csv(index=False)), dtype=str)
    except Exception as error:  # network, cache and parser errors have no common class
        raise InputError(
            f"data: OpenML cannot provide house_prices ({one_line(error)}); give --data-dir with D1.csv and D2.csv, or "
            "train.csv"
        ) from error
    return _with_columns(Table(frame, f"data: OpenML's table {OPENML_ID}"))


def _with_columns(table: Table) -> Table:
    missing = [name for name in (ZONE, PRIMARY_TARGET, HARMFUL_TARGET) if name not in table.frame]
    if missing:
        raise InputError(f"{table.source} has no column {missing[0]}; use the original table")
    if len(table.frame.columns) != COLUMNS:
        raise InputError(
            f"{table.source} has {len(table.frame.columns)} columns, expected {COLUMNS}; use the original table"
        )
    return table._replace(frame=table.frame.apply(_with_floats))


def _with_floats(column: "pd.Series") -> "pd.Series":
    """A column of text as numbers, if every entry that is there is one; pandas would take long integers for words."""
    try:
        return column.map(float, na_action="ignore").astype(float)
    except ValueError:
        return column


def _by_zone(table: Table) -> tuple[Table, Table]:
    low_density = table.frame[ZONE] == "RL"
    return (
        Table(cast("pd.DataFrame", table.frame[~low_density]), f"{table.source}, zones other than RL,"),
        Table(cast("pd.DataFrame", table.frame[low_density]), f"{table.source}, zone RL,"),
    )


def _standardised(table: Table, target: str, houses: int) -> tuple[np.ndarray, np.ndarray]:
    """Features (houses, 79) and target (houses,), each column with mean 0 and standard deviation 1 over the table."""
    import pandas as pd

    frame, source = table
    if len(frame) != houses:
        raise InputError(f"{source} has {len(frame)} rows, expected {houses}; download the original table again")
    y = np.asarray(pd.to_numeric(frame[target], errors="coerce"), np.float64)
    if not np.isfinite(y).all():
        raise InputError(
            f"{source} has {np.sum(~np.isfinite(y))} entries of {target} that are no numbers; download it again"
        )
    features = frame.drop(columns=[PRIMARY_TARGET, HARMFUL_TARGET])
    x = np.stack([_numbers(column) for _, column in features.items()], axis=1)
    for name, values in (*zip(features.columns, x.T, strict=True), (target, y)):
        _check_size(name, values, table)
    return _z_score(x), _z_score(y)


def _check_size(name: str, values: np.ndarray, table: Table) -> None:
    """Raises `InputError` for a number that is infinite or too large to compute with."""
    bad = np.flatnonzero(~(np.abs(values) <= LARGEST))
    if len(bad):
        # Parts of a table keep the numbers of its rows.
        rows = [str(int(table.frame.index[place]) + 1) for place in bad]
        raise InputError(
            f"{table.source} has {values[bad[0]]} in column {name}, row {few(rows)}; numbers may have 100 digits, "
            "download the original table again"
        )


def _numbers(column: "pd.Series") -> np.ndarray:
    """A column as float64: missing is 0, and words are numbered in sorted order (a missing word sorts as "0")."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column.fillna(0).to_numpy(np.float64)
    words = column.astype(object).where(column.notna(), "0").to_numpy(str)
    return np.unique(words, return_inverse=True)[1].astype(np.float64)


def _z_score(values: np.ndarray) -> np.ndarray:
    deviation = values.std(axis=0, ddof=1)
    return (values - values.mean(axis=0)) / np.where(deviation == 0, 1, deviation)
