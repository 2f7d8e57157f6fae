"""Somebody's own features as what is protected: a pair of tasks from files, with nothing before the extractor."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks import class_task
from cimm_jax.class_targets import one_hot
from cimm_jax.data import TaskNames, checksums
from cimm_jax.data.feature_table import FeatureParts
from cimm_jax.data.feature_tasks import HELDOUT_SHARE, FeatureTask, Rows, load_feature_tasks
from cimm_jax.data.reserved import reserved_rows
from cimm_jax.errors import InputError
from cimm_jax.methods import Method
from cimm_jax.methods.run import check_batch_size
from cimm_jax.numerics import losses
from cimm_jax.runs.many_features import CondensedFeatures, condensed_features, some_rows, target_coding
from cimm_jax.runs.source import FeatureSource
from cimm_jax.tasks import SplitPair, SplitTask, Task, TaskPair, check_pair

if TYPE_CHECKING:
    from cimm_jax.networks.features import Labelled

__all__ = ["MOST_ENTRIES", "FeatureSubject"]

MOST_ENTRIES = 1 << 27
"""Of all rows together: a gibibyte of float64."""


class FeatureSubject:
    """A pair of tasks on features that were made elsewhere; classes are judged by errors, as those of networks are.

    Attributes:
      source: what opened it, with the share of rows that was held out.
      names: what people call the tasks: the files.
      by_errors: whether labels are classes.
      tasks: by name, as the files have them; of the harmful one, the rows that defences see.
      attackers: rows of the harmful task that attackers have: those reserved or, if none are, all.
      all_harmful: the attackers' and the defences' training rows of the harmful task.
      own_images: whether attackers have rows that no defence sees.
      is_large: whether there are more than `MOST_ENTRIES` numbers, which had better be read in chunks (`condensed`).

    Args:
      source: which files, and how they are read.
      features: by the name of the task, instead of what its file has; the source only says what that is called.

    Raises:
      InputError: as `data.feature_tasks.load_feature_tasks` and `data.reserved.reserved_rows`, for features that are all zero,
        unless they are many, and for a source of several harmful tasks (`several_harmful`), which are files.
    """

    network_data = None
    network = None
    head = None

    def __init__(self, source: FeatureSource, features: Mapping[str, FeatureParts] = MappingProxyType({})):
        if source.harmful_too:
            raise InputError(
                "harmful_too: several harmful tasks need files of features, got arrays; save them as .npz files"
            )
        paths = {name: getattr(source, name) for name in ("primary", "harmful", "benign")}
        self.tasks = load_feature_tasks(
            {name: path for name, path in paths.items() if path is not None} | dict(features),
            label=source.label,
            target=source.target,
            heldout_share=source.heldout_share,
            heldout_seed=source.heldout_seed,
        )
        drawn = any(self.tasks[name].drawn for name in TaskPair._fields)
        share = HELDOUT_SHARE if source.heldout_share is None else source.heldout_share
        self.source = replace(source, heldout_share=share if drawn else None)
        self.names = _names(source)
        self.by_errors = source.target == "classes"
        self._checksums = checksums({part: self._rows(part) for part in SplitPair._fields})
        self.own_images = source.reserved > 0
        harmful = self.tasks["harmful"]
        left, taken = _reserved(harmful, source.reserved)
        self.attackers, self.all_harmful = harmful.train.choose(taken if len(taken) else left), harmful.train
        self.tasks["harmful"] = harmful._replace(train=harmful.train.choose(left))
        rows = sum(len(task.x) for part in SplitPair._fields for task in self._rows(part))
        self.is_large = rows * self.features > MOST_ENTRIES
        for part in () if self.is_large else SplitPair._fields:
            check_pair(self._pair(part), part)

    @property
    def title(self) -> str:
        """As the source has it."""
        return self.source.title

    @property
    def features(self) -> int:
        """That the files have."""
        return self.tasks["primary"].train.x.shape[1]

    @property
    def attackers_rows(self) -> Task:
        """Rows of the harmful task that attackers have, targets -1 and +1 or amounts: those reserved or, if none are, all."""
        return _coded(self.attackers, self.tasks["harmful"].classes)

    @property
    def all_harmful_rows(self) -> Task:
        """The attackers' and the defences' training rows of the harmful task, coded alike."""
        return _coded(self.all_harmful, self.tasks["harmful"].classes)

    def condensed(self) -> CondensedFeatures:
        """Both tasks in few rows with the same covariances; all rows are read, with progress bars."""
        return condensed_features(self.tasks)

    def some_rows(self, most: int, seed: int) -> TaskPair:
        """At most so many training rows of each task as methods see them, drawn, on the host."""
        return some_rows(self.tasks, most, seed)

    @cached_property
    def _pairs(self) -> dict[str, TaskPair]:
        return {part: jax.tree.map(jnp.asarray, self._pair(part)) for part in SplitPair._fields}

    def pairs(self) -> dict[str, TaskPair]:
        """Features with centred one-hot targets or standardised amounts, float64, on the device."""
        return self._pairs

    @property
    def judging_rows(self) -> Task:
        """Held-out rows of the harmful task, targets -1 and +1 or amounts; raises `InputError` if there are no labels."""
        self.check_labels("harmful", "attackers are judged by them")
        harmful = self.tasks["harmful"]
        return _coded(harmful.heldout, harmful.classes)

    @property
    def can_be_judged(self) -> bool:
        """Whether the harmful task has labels."""
        return self.tasks["harmful"].train.labels is not None

    def check_method(self, method: Method) -> None:
        """Raises `InputError` if the method looks at labels that are missing."""
        for name in TaskPair._fields if method.needs_targets else ():
            self.check_labels(name, "the method trains on them")

    def check_loss(self, loss: losses.Loss) -> None:
        """As the protocol has it; also if the harmful task has no labels."""
        self.check_labels("harmful", "attackers are judged by them")
        if loss is losses.squared:
            return
        if not self.by_errors:
            raise InputError("loss: amounts are no classes; use --loss squared")
        for name, task in self.tasks.items():
            if loss is losses.softmax and len(task.classes) == 2:
                raise InputError(f"loss: the {name} task has two classes; use --loss logistic")

    def attacked(self, loss: losses.Loss) -> dict[str, SplitTask]:
        """The harmful task and, where they have labels, the primary and the benign one."""
        self.check_loss(loss)
        labelled = {name: self.tasks[name] for name in ("harmful", "primary", "benign") if name in self.tasks}
        return {name: _attacked(task, loss) for name, task in labelled.items() if task.train.labels is not None}

    def published_primary(self) -> "Mapping[str, Labelled]":
        """None."""
        return {}

    def checksums(self) -> dict[str, str]:
        """Of the rows and labels of both parts, as the files have them."""
        return self._checksums

    def check_batch_size(self, batch_size: int | None) -> None:
        """As the protocol has it."""
        check_batch_size(batch_size, self._rows("train"))

    def _rows(self, part: str) -> TaskPair:
        """Both tasks as the files have them; labels are class numbers or amounts."""
        return TaskPair(*(Task(*getattr(self.tasks[name], part)) for name in TaskPair._fields))

    def _pair(self, part: str) -> TaskPair:
        """Both tasks as methods see them."""
        return TaskPair(*(_seen(self.tasks[name], getattr(self.tasks[name], part)) for name in TaskPair._fields))

    def check_labels(self, name: str, why: str) -> None:
        """Raises `InputError`, with the reason why they are needed, if the task of that name has no labels."""
        if self.tasks[name].train.labels is None:
            path = getattr(self.source, name)
            raise InputError(f"{name}: {path} has no labels, and {why}; add them as y, or name theirs with --label")


def _names(source: FeatureSource) -> TaskNames:
    """The files' names; with their folders', where two are the same."""
    given = [source.primary, source.harmful, *([] if source.benign is None else [source.benign])]
    names = [path.name for path in given]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in given]
    return TaskNames(*names)


def _reserved(task: FeatureTask, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Training rows that defences see, and those that attackers have; of amounts, any rows."""
    labels = task.train.labels
    known = labels if task.classes and labels is not None else np.zeros(len(task.train.x), np.int64)
    return reserved_rows(known, share, "harmful task", classes=task.classes or None)


def _coded(rows: Rows, classes: tuple[str, ...]) -> Task:
    """Classes as -1 and +1; amounts as they are."""
    coded = one_hot(rows.labels, len(classes)) if classes else rows.labels
    return Task(np.asarray(rows.x, np.float64), coded)


def _seen(task: FeatureTask, rows: Rows) -> Task:
    """What methods and measures are given."""
    coding, labels = target_coding(task), rows.labels
    return Task(np.asarray(rows.x, np.float64), None if coding is None or labels is None else coding(labels))


def _attacked(task: FeatureTask, loss: losses.Loss) -> SplitTask:
    if not task.classes:
        return SplitTask(*(_coded(rows, ()) for rows in (task.train, task.heldout)))
    train, heldout = ((np.asarray(rows.x), rows.labels) for rows in (task.train, task.heldout))
    assert train[1] is not None
    assert heldout[1] is not None
    return class_task(
        (train[0], train[1]), (heldout[0], heldout[1]), classes=len(task.classes), squared=loss is losses.squared
    )
