"""The same small features in every format that is read."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

X = np.round(np.random.default_rng(0).normal(size=(12, 3)), 3).astype(np.float32)
Y = np.asarray([0, 1, 2] * 4)
WORDS = np.asarray(["ant", "bee", "cat"])[Y]
COLUMNS = ("first", "second", "third")


def write_npy(path: Path, x: np.ndarray = X, y: np.ndarray | None = Y) -> Path:
    np.save(path, x)
    if y is not None:
        np.save(path.with_name(f"{path.stem}.labels.npy"), y)
    return path


def write_npz(path: Path, x: np.ndarray = X, y: np.ndarray | None = Y, **more: np.ndarray) -> Path:
    np.savez(path, x=x, **({} if y is None else {"y": y}), **more)
    return path


def write_safetensors(path: Path, x: np.ndarray = X, y: np.ndarray | None = Y) -> Path:
    save_file({"x": np.ascontiguousarray(x), **({} if y is None else {"y": y})}, path)
    return path


def write_csv(path: Path, x: np.ndarray = X, y: np.ndarray | None = Y, label: str = "y") -> Path:
    """The labels stand between the features."""
    rows = [list(COLUMNS[: x.shape[1]]), *x.tolist()]
    for cells, cell in zip(rows, [] if y is None else [label, *y.tolist()], strict=y is not None):
        cells.insert(1, cell)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def write_parquet(path: Path, x: np.ndarray = X, y: np.ndarray | None = Y, label: str = "y") -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = dict(zip(COLUMNS, x.T, strict=False))
    pq.write_table(pa.table({**columns, **({} if y is None else {label: y})}), path)
    return path


WRITERS: dict[str, Callable[..., Path]] = {
    "npy": write_npy,
    "npz": write_npz,
    "safetensors": write_safetensors,
    "csv": write_csv,
    "parquet": write_parquet,
}


def example(folder: Path, kind: str, **given: np.ndarray) -> Path:
    """One file of features; skips the test where nothing can write it."""
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    return WRITERS[kind](folder / f"a.{kind}", **given)
