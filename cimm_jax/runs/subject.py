"""What is protected: tasks by part, the network if there is one, and where they came from."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks import are_classes
from cimm_jax.class_targets import labels_of
from cimm_jax.closed_form.heads import Head
from cimm_jax.data import TaskNames, checksums, load_benign, load_pair, task_names
from cimm_jax.data.feature_table import FeatureParts
from cimm_jax.data.reserved import reserved_rows
from cimm_jax.errors import InputError
from cimm_jax.methods import Method
from cimm_jax.methods.run import check_batch_size
from cimm_jax.numerics import losses
from cimm_jax.runs.feature_subject import FeatureSubject
from cimm_jax.runs.network_data import NetworkData
from cimm_jax.runs.source import DataSource, FeatureSource, Source, harmful_one_by_one
from cimm_jax.tasks import SplitPair, SplitTask, Task, TaskPair, check_pair

if TYPE_CHECKING:
    from cimm_jax.networks.backbone import Backbone
    from cimm_jax.networks.features import Labelled

__all__ = ["DataSubject", "Subject", "open_features", "open_subject"]


class Subject(Protocol):
    """A pair of tasks on undefended features."""

    @property
    def source(self) -> Source:
        """What opens the same subject again."""
        ...

    @property
    def names(self) -> TaskNames:
        """What people call the tasks."""
        ...

    @property
    def network_data(self) -> NetworkData | None:
        """What a network's features are made from; None if there is no network."""
        ...

    @property
    def by_errors(self) -> bool:
        """Whether held-out rows are judged by the share classified wrongly, as networks are, or by the loss."""
        ...

    @property
    def network(self) -> "Backbone | None":
        """The network with its published weights; None if there is none."""
        ...

    @property
    def head(self) -> Head | None:
        """The published head of a network."""
        ...

    @property
    def title(self) -> str:
        """What people call the data or the network."""
        ...

    @property
    def features(self) -> int:
        """How many features there are."""
        ...

    def pairs(self) -> dict[str, TaskPair]:
        """Undefended features as tasks for methods and measures, by part: "train", and "heldout" where there are any."""
        ...

    @property
    def can_be_judged(self) -> bool:
        """Whether there are held-out harmful rows."""
        ...

    def check_loss(self, loss: losses.Loss) -> None:
        """Raises `InputError` if attackers with this loss cannot be used; computes no features."""
        ...

    def attacked(self, loss: losses.Loss) -> dict[str, SplitTask]:
        """Undefended features as tasks to attack: harmful, primary, benign, those that have held-out rows.

        Raises:
          InputError: as `check_loss`.
        """
        ...

    def published_primary(self) -> "Mapping[str, Labelled]":
        """Published features and labels of the primary images as they are, by part; empty if there is no network."""
        ...

    def checksums(self) -> dict[str, str]:
        """Of what results are made from, by its path."""
        ...

    def check_batch_size(self, batch_size: int | None) -> None:
        """Raises `InputError` if the batch is not between 1 and the rows of the smaller task."""
        ...

    def check_method(self, method: Method) -> None:
        """Raises `InputError` if the tasks lack what the method looks at; computes nothing."""
        ...


class DataSubject:
    """A pair of tasks of a data set, with nothing before the extractor.

    Attributes:
      split: both parts, as defences see them.
      own_images: whether attackers have rows that no defence sees.
      attackers_rows: rows of the harmful task that attackers have: those reserved or, if there are none, the defences'.
      all_harmful_rows: the attackers' and the defences' training rows of it.

    Raises:
      InputError: as `data.load_pair` and `data.reserved.reserved_rows`.
    """

    network_data = None
    network = None
    head = None
    by_errors = False
    can_be_judged = True

    def __init__(self, source: DataSource):
        self.source = source
        self.names = task_names(source.data, primary=source.primary, harmful=source.harmful, benign=source.benign)
        pair = load_pair(
            source.data, data_dir=source.data_dir, primary=source.primary, harmful=source.harmful, rows=source.rows
        )
        check_pair(pair.heldout, "heldout")
        self._loaded = pair
        self.own_images = source.reserved > 0
        self.all_harmful_rows = pair.train.harmful
        train, self.attackers_rows = _without_reserved(pair.train, source.reserved)
        self.split: SplitPair = jax.tree.map(jnp.asarray, pair._replace(train=train))

    @property
    def title(self) -> str:
        """The data set's name."""
        return self.source.data

    @property
    def features(self) -> int:
        """Of the inputs."""
        return self.split.train.primary.x.shape[1]

    def pairs(self) -> dict[str, TaskPair]:
        """The inputs of both parts."""
        return self.split._asdict()

    def attacked(self, loss: losses.Loss) -> dict[str, SplitTask]:
        """The harmful, the primary and, if there is one, the benign task."""
        self.check_loss(loss)
        return self._tasks

    def check_loss(self, loss: losses.Loss) -> None:
        """As the protocol has it; loads the benign task."""
        for name, task in self._tasks.items():
            _check_loss(name, task, loss)

    def published_primary(self) -> "Mapping[str, Labelled]":
        """None."""
        return {}

    def checksums(self) -> dict[str, str]:
        """Of the arrays of both parts."""
        return checksums(self._loaded)

    def check_batch_size(self, batch_size: int | None) -> None:
        """As the protocol has it."""
        check_batch_size(batch_size, self.split.train)

    def check_method(self, method: Method) -> None:
        """All data sets have targets."""

    @property
    def judging_rows(self) -> Task:
        """Held-out rows of the harmful task."""
        return self.split.heldout.harmful

    @cached_property
    def _tasks(self) -> dict[str, SplitTask]:
        source = self.source
        benign = load_benign(
            source.data,
            data_dir=source.data_dir,
            primary=source.primary,
            harmful=source.harmful,
            benign=source.benign,
            rows=source.rows,
        )
        tasks = {name: self.split.task(name) for name in ("harmful", "primary")}
        return tasks if benign is None else {**tasks, "benign": jax.tree.map(jnp.asarray, benign)}


def _without_reserved(pair: TaskPair, share: float) -> tuple[TaskPair, Task]:
    """The pair as defences see it, and the harmful rows that attackers have; of amounts, any rows."""
    x, y = pair.harmful
    left, taken = reserved_rows(labels_of(y) if are_classes(y) else np.zeros(len(x), np.int64), share, "harmful task")
    if not len(taken):
        return pair, pair.harmful
    return pair._replace(harmful=Task(x[left], y[left])), Task(x[taken], y[taken])


def _check_loss(name: str, task: SplitTask, loss: losses.Loss) -> None:
    if loss is losses.squared:
        return
    if not are_classes(task.train.y):
        raise InputError(f"loss: the {name} task has no classes; use --loss squared")
    if loss is losses.softmax and task.train.y.ndim == 1:
        raise InputError(f"loss: the {name} task has two classes; use --loss logistic")


def open_subject(source: Source, cache: Path | None = None) -> Subject:
    """Loads what a source names; features of a network are kept in the cache, None being the user's.

    Raises:
      InputError: as `DataSubject`, `feature_subject.FeatureSubject`, `network_subject.NetworkSubject` and, of several harmful
        tasks, `several_harmful.SeveralHarmful`.
    """
    if isinstance(source, DataSource):
        return DataSubject(source)
    if source.harmful_too:
        from cimm_jax.runs.several_harmful import SeveralHarmful

        return SeveralHarmful(source, [open_subject(one, cache) for one in harmful_one_by_one(source)])
    if isinstance(source, FeatureSource):
        return open_features(source, cache=cache)
    from cimm_jax.runs.network_subject import NetworkSubject

    return NetworkSubject(source, cache)


def open_features(
    source: FeatureSource, features: Mapping[str, FeatureParts] = MappingProxyType({}), cache: Path | None = None
) -> Subject:
    """Features alone or, if the source says so, with an extractor behind them; arguments and errors as those have."""
    if source.extractor is None:
        return FeatureSubject(source, features)
    from cimm_jax.runs.extractor_subject import ExtractorSubject

    return ExtractorSubject(source, features, cache)
