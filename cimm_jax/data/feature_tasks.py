"""Somebody's own features as a task: classes numbered or amounts scaled, in a training part and a held-out one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cimm_jax.data.feature_files import read_features
from cimm_jax.data.feature_table import FeatureParts, FeatureTable, check_same_features
from cimm_jax.data.reserved import heldout_rows, reserved_rows
from cimm_jax.data.row_view import LazyRows
from cimm_jax.errors import InputError, few

__all__ = ["HELDOUT_SHARE", "TARGETS", "FeatureTask", "Rows", "load_feature_tasks"]

TARGETS = ("classes", "regression")
"""What labels may be."""

HELDOUT_SHARE = 0.2
"""Of rows that come in one part, unless somebody says otherwise."""

_MOST_WHOLE = 2.0**53
"""Beyond it, not every whole number is a float64: two classes might become one."""


class Rows(NamedTuple):
    """One part of a task.

    Attributes:
      x: features, shape (N, d), float32 or float64, read when they are wanted.
      labels: shape (N,): class numbers, int64; amounts, float64; None if there are none.
    """

    x: LazyRows
    labels: np.ndarray | None

    def choose(self, rows: np.ndarray) -> "Rows":
        """Some of them; nothing is read."""
        return Rows(self.x.choose(rows), None if self.labels is None else self.labels[rows])


class FeatureTask(NamedTuple):
    """A task on features.

    Attributes:
      train: rows that methods may look at.
      heldout: those that judge.
      classes: names of the classes, by number; empty for amounts and where there are no labels.
      drawn: whether the held-out rows were drawn, since the files had none of their own.
    """

    train: Rows
    heldout: Rows
    classes: tuple[str, ...]
    drawn: bool


def load_feature_tasks(
    given: Mapping[str, Path | FeatureParts],
    *,
    label: str | None = None,
    target: str = "classes",
    heldout_share: float | None = None,
    heldout_seed: int = 0,
) -> dict[str, FeatureTask]:
    """Tasks of files or folders (`read_features`), or of what was read of them, of the same features.

    Amounts are standardised by the mean and deviation of the training rows: a probe that says nothing is then as good as the
    mean. Features stay as they are.

    Args:
      given: paths or features by the name of the task, which messages use.
      label: the column or array of the labels; None is y or label, if it is there.
      target: what labels are, one of `TARGETS`.
      heldout_share: of the rows of files that have no held-out part, in (0, 1), of each class alike; None is `HELDOUT_SHARE`.
      heldout_seed: draws them.

    Raises:
      InputError: if a file cannot be used, labels are of another kind, there are fewer than two classes, the held-out part has
        classes that the training part lacks, a part has fewer rows than classes, or a share is given and no rows are drawn.
    """
    if target not in TARGETS:
        raise InputError(f"target: {target!r} is unknown; choose one of {', '.join(TARGETS)}")
    if heldout_share is not None and not 0 < heldout_share < 1:
        raise InputError(f"heldout_share: needs a share above 0 and below 1, got {heldout_share}")
    if heldout_seed < 0:
        raise InputError(f"heldout_seed: needs a whole number from 0, got {heldout_seed}")
    read = {task: of if isinstance(of, FeatureParts) else read_features(of, task, label) for task, of in given.items()}
    first, *others = (parts.train for parts in read.values())
    for other in others:
        check_same_features(first, other)
    if heldout_share is not None and all(parts.heldout is not None for parts in read.values()):
        raise InputError("heldout_share: all files have held-out parts of their own; leave it out")
    share = HELDOUT_SHARE if heldout_share is None else heldout_share
    return {task: _task(parts.train, parts.heldout, target, share, heldout_seed, task) for task, parts in read.items()}


def _task(
    train: FeatureTable, heldout: FeatureTable | None, target: str, share: float, seed: int, name: str
) -> FeatureTask:
    tables, classes = [train] if heldout is None else [train, heldout], ()
    labels: Sequence[np.ndarray | None] = [None for _ in tables]
    if train.labels is not None:
        classes, labels = _amounts(tables) if target == "regression" else _numbered(tables)
    parts = [Rows(table.x, of) for table, of in zip(tables, labels, strict=True)]
    if heldout is None:
        parts = _drawn(parts[0], classes, share, seed, name)
    for part, rows in zip(("training", "held-out"), parts, strict=True):
        if len(rows.x) < max(2, len(classes)):
            has = f"{len(rows.x)} rows and {len(classes)} classes" if classes else f"{len(rows.x)} rows"
            raise InputError(f"{train.where} has {has} in its {part} part; give at least {max(2, len(classes))} rows")
    if train.labels is not None and not classes:
        parts = _standardised(parts, train.where)
    return FeatureTask(parts[0], parts[1], classes, drawn=heldout is None)


def _numbered(tables: Sequence[FeatureTable]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Names of the classes of the first table, and the class number of each row of every table."""
    values = [_class_values(table) for table in tables]
    classes, where = np.unique(values[0]), tables[0].where
    if len(classes) < 2:
        raise InputError(f"{where} has labels of one class only, {classes[0]}; give rows of at least two")
    for table, of in zip(tables[1:], values[1:], strict=True):
        if unknown := np.setdiff1d(of, classes).tolist():
            raise InputError(
                f"{table.where} has classes that the training part lacks: {few(list(map(str, unknown)))}; add such rows to "
                "it, or leave them out here"
            )
    return tuple(map(str, classes.tolist())), [np.searchsorted(classes, of) for of in values]


def _class_values(table: FeatureTable) -> np.ndarray:
    """Labels as text or int64; floats that are whole numbers, as tables with gaps have them, are taken for these."""
    labels = table.labels
    assert labels is not None  # both parts have labels, or none
    if labels.dtype.kind != "f":
        return labels if labels.dtype.kind == "U" else labels.astype(np.int64)
    whole = np.isfinite(labels) & (labels == np.round(labels)) & (np.abs(labels) <= _MOST_WHOLE)
    if not whole.all():
        row = int(np.flatnonzero(~whole)[0])
        raise InputError(
            f"{table.where} has the label {labels[row]} in row {row + 1}, which is no class; give whole numbers or text, or "
            "--target regression"
        )
    return labels.astype(np.int64)


def _amounts(tables: Sequence[FeatureTable]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """No classes, and the labels of every table as float64."""
    found = []
    for table in tables:
        labels = table.labels
        assert labels is not None  # both parts have labels, or none
        if labels.dtype.kind == "U":
            raise InputError(
                f"{table.where} has text as labels, such as {str(labels[0])!r}; --target regression needs numbers"
            )
        amounts = labels.astype(np.float64)
        if not (finite := np.isfinite(amounts)).all():
            row = int(np.flatnonzero(~finite)[0])
            raise InputError(f"{table.where} has the label {amounts[row]} in row {row + 1}; leave such rows out")
        found.append(amounts)
    return (), found


def _drawn(rows: Rows, classes: Sequence[str], share: float, seed: int, name: str) -> list[Rows]:
    """Rows that are left, and a share of them that is held out, of each class alike."""
    if classes:
        assert rows.labels is not None
        drawn = reserved_rows(rows.labels, share, f"{name} task", argument="heldout_share", seed=seed, classes=classes)
    else:
        drawn = heldout_rows(len(rows.x), share, seed=seed)
    return [rows.choose(of) for of in drawn]


def _standardised(parts: Sequence[Rows], where: str) -> list[Rows]:
    amounts = parts[0].labels
    assert amounts is not None
    mean, deviation = amounts.mean(), amounts.std()
    if not 0 < deviation < np.inf:
        raise InputError(f"{where} has labels whose deviation is {deviation}; give amounts that differ, below 1e150")
    return [Rows(part.x, None if part.labels is None else (part.labels - mean) / deviation) for part in parts]
