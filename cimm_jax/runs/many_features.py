"""Own features that are too many to be held: both tasks in few rows with the same covariances, read in chunks."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from cimm_jax.class_targets import one_hot
from cimm_jax.closed_form.ridge import FOLDS, RidgePath, choose_ridge_in_chunks
from cimm_jax.data.feature_tasks import FeatureTask, Rows
from cimm_jax.data.row_view import CHUNK
from cimm_jax.numerics.condensing import Condensed, condense
from cimm_jax.progress import progress_bar
from cimm_jax.tasks import SplitPair, Task, TaskPair, check_pair

__all__ = ["CondensedFeatures", "condensed_features", "some_rows", "target_coding"]


class CondensedFeatures(NamedTuple):
    """What `measures.diagnosis.diagnose` is given instead of all rows.

    Attributes:
      split: both parts in few rows (`numerics.condensing`).
      ridge_path: what held-out primary rows say of each ridge, of all training rows.
    """

    split: SplitPair
    ridge_path: RidgePath


def condensed_features(tasks: Mapping[str, FeatureTask]) -> CondensedFeatures:
    """Both tasks in few rows; reads every row once and the primary training rows twice, with progress bars.

    Args:
      tasks: "primary" and "harmful", classes or amounts.

    Raises:
      InputError: as `tasks.check_pair`, of all rows.
    """
    found = {
        (part, name): _condensed(tasks[name], part, name) for part in SplitPair._fields for name in TaskPair._fields
    }
    split = SplitPair(
        *(
            check_pair(TaskPair(*(found[part, name].task for name in TaskPair._fields)), part)
            for part in SplitPair._fields
        )
    )
    rows = tasks["primary"].train
    with progress_bar("choosing the ridge on the primary rows", len(rows.x)) as progress:
        path = choose_ridge_in_chunks(found["train", "primary"], (task.x for task in _read(rows, None, progress)))
    return CondensedFeatures(split, path)


def some_rows(tasks: Mapping[str, FeatureTask], most: int, seed: int = 0) -> TaskPair:
    """At most so many training rows of each task, drawn, on the host.

    Args:
      tasks: "primary" and "harmful".
      most: how many.
      seed: draws them.
    """

    def drawn(task: FeatureTask) -> Task:
        count = len(task.train.x)
        rows = task.train.choose(np.sort(np.random.default_rng(seed).permutation(count)[:most]))
        return next(_read(rows, target_coding(task)))

    return TaskPair(*(drawn(tasks[name]) for name in TaskPair._fields))


def _condensed(task: FeatureTask, part: str, name: str) -> Condensed:
    rows = getattr(task, part)
    with progress_bar(f"{part} rows of the {name} task", len(rows.x)) as progress:
        return condense(_read(rows, target_coding(task), progress), folds=FOLDS)


def target_coding(task: FeatureTask) -> Callable[[np.ndarray], np.ndarray] | None:
    """What makes of labels the targets that methods see: classes as -1 and +1 minus the means over the training rows.

    Args:
      task: whose labels; None is returned if it has none. Amounts stay as they are.
    """
    labels = task.train.labels
    if labels is None:
        return None
    if not task.classes:
        return lambda amounts: amounts
    count = len(task.classes)
    parts = (labels[start : start + CHUNK] for start in range(0, len(labels), CHUNK))
    mean = sum((one_hot(part, count).sum(0) for part in parts), np.zeros(())) / len(labels)
    return lambda of: one_hot(of, count) - mean


def _read(
    rows: Rows, coded: Callable[[np.ndarray], np.ndarray] | None, progress: Callable[[int], None] | None = None
) -> Iterator[Task]:
    """Inputs and targets in chunks, float64."""
    made = 0
    for x in rows.x.chunks():
        labels = None if coded is None or rows.labels is None else coded(rows.labels[made : made + len(x)])
        yield Task(x.astype(np.float64), labels)
        made += len(x)
        if progress is not None:
            progress(made)
