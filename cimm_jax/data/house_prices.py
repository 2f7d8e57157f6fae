"""House Prices: the paper's regression pair, lot area as the primary task and sale price as the harmful one.

Preprocessing as in the paper's released code: the houses are split by MSZoning (all zones but RL, 309 houses, are the
primary table D1; zone RL, 1,151 houses, the harmful table D2), missing entries become 0, columns with words are numbered
in sorted order, and each table's features and target are standardised by that table's own mean and standard deviation.
The first 200 houses are for training, the next 100 held out. Every column but the two targets is a feature: 79 of them.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.tasks import SplitPair, Task, TaskPair

if TYPE_CHECKING:
    import pandas as pd

TARGETS = {"primary": "LotArea", "harmful": "SalePrice"}
TRAIN_ROWS, HELDOUT_ROWS = 200, 100
OPENML_ID = 42165


def load_house_prices(data_dir: Path | None = None) -> SplitPair:
    """The pair, x of shape (200, 79) and (100, 79), float64.

    Args:
      data_dir: folder with D1.csv and D2.csv, or else train.csv of the Kaggle competition; None asks OpenML.

    Raises:
      InputError: if the files are missing, damaged or lack a column, or OpenML cannot be reached.
    """
    first, second = _from_openml() if data_dir is None else _from_folder(data_dir)
    primary, harmful = _standardised(first, TARGETS["primary"]), _standardised(second, TARGETS["harmful"])
    if primary.x.shape[1] != harmful.x.shape[1]:
        raise InputError(
            f"--data-dir: the primary table has {primary.x.shape[1]} features and the harmful one {harmful.x.shape[1]}; "
            "both need the columns of the original train.csv"
        )
    return SplitPair(
        TaskPair(_rows(primary, 0, TRAIN_ROWS), _rows(harmful, 0, TRAIN_ROWS)),
        TaskPair(
            _rows(primary, TRAIN_ROWS, TRAIN_ROWS + HELDOUT_ROWS), _rows(harmful, TRAIN_ROWS, TRAIN_ROWS + HELDOUT_ROWS)
        ),
    )


def _from_folder(folder: Path) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    if (folder / "D1.csv").exists() and (folder / "D2.csv").exists():
        return _read(folder / "D1.csv"), _read(folder / "D2.csv")
    if (folder / "train.csv").exists():
        return _by_zone(_read(folder / "train.csv"))
    raise InputError(f"--data-dir: {folder} has neither D1.csv and D2.csv nor train.csv; put the House Prices tables there")


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"--data-dir: {path} cannot be read ({str(error).splitlines()[0]}); download it again") from error


def _from_openml() -> tuple["pd.DataFrame", "pd.DataFrame"]:
    from sklearn.datasets import fetch_openml

    try:
        frame = fetch_openml(data_id=OPENML_ID, as_frame=True).frame
    except Exception as error:  # network, cache and parser errors have no common class
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"data: OpenML cannot provide house_prices ({reason}); give --data-dir with D1.csv and D2.csv, or train.csv"
        ) from error
    return _by_zone(frame)


def _by_zone(frame: "pd.DataFrame") -> tuple["pd.DataFrame", "pd.DataFrame"]:
    if "MSZoning" not in frame:
        raise InputError("--data-dir: the table has no column MSZoning; use the original train.csv")
    low_density = frame["MSZoning"] == "RL"
    return frame[~low_density], frame[low_density]


def _standardised(frame: "pd.DataFrame", target: str) -> Task:
    missing = [name for name in TARGETS.values() if name not in frame]
    if missing:
        raise InputError(f"--data-dir: a table has no column {missing[0]}; use the original tables")
    if len(frame) < TRAIN_ROWS + HELDOUT_ROWS:
        raise InputError(
            f"--data-dir: a table has {len(frame)} rows and needs {TRAIN_ROWS + HELDOUT_ROWS}; download it again"
        )
    features = frame.drop(columns=list(TARGETS.values()))
    columns = np.stack([_numbers(features[name]) for name in features], axis=1)
    return Task(_z_score(columns), _z_score(frame[target].to_numpy(np.float64)))


def _numbers(column: "pd.Series") -> np.ndarray:
    """A column as float64: missing is 0, and words are numbered in sorted order (a missing word sorts as "0")."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return column.fillna(0).to_numpy(np.float64)
    words = column.astype(object).where(column.notna(), "0").astype(str).to_numpy(str)
    return np.unique(words, return_inverse=True)[1].astype(np.float64)


def _z_score(values: np.ndarray) -> np.ndarray:
    deviation = values.std(axis=0, ddof=1)
    return (values - values.mean(axis=0)) / np.where(deviation == 0, 1, deviation)


def _rows(task: Task, start: int, stop: int) -> Task:
    return Task(task.x[start:stop], task.y[start:stop])
