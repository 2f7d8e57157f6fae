"""Several harmful tasks as one subject: what a map sees of them is one task, what is measured is each by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.heads import Head
from cimm_jax.data import TaskNames
from cimm_jax.errors import InputError, naming
from cimm_jax.methods import Method
from cimm_jax.numerics import losses
from cimm_jax.runs.network_data import NetworkData
from cimm_jax.runs.source import FeatureSource, NetworkSource
from cimm_jax.tasks import TaskPair, join_tasks

if TYPE_CHECKING:
    from cimm_jax.networks.backbone import Backbone
    from cimm_jax.networks.features import Labelled
    from cimm_jax.runs.subject import Subject

__all__ = ["SeveralHarmful", "checksums_of_each"]


HARMFUL = "harmful"
"""In the names of checksums; from the second task on with its number."""


class SeveralHarmful:
    """One primary task and several harmful ones, for maps (`tasks.join_tasks`).

    Attributes:
      source: of all of them.
      each: the same primary task with each harmful one alone.
      names: what people call the tasks, the harmful ones in one text.

    Raises:
      InputError: if a task comes twice, or some harmful tasks have labels and others have none.
    """

    can_be_judged = False

    def __init__(self, source: FeatureSource | NetworkSource, each: "Sequence[Subject]"):
        self.source, self.each, self._first = source, tuple(each), each[0]
        harmful = [one.names.harmful for one in each]
        self.names = TaskNames(each[0].names.primary, " + ".join(harmful))
        self.by_errors = all(one.by_errors for one in each)
        seen: dict[tuple[str, ...], str] = {}
        for one, name in zip(each, harmful, strict=True):
            content = tuple(value for key, value in one.checksums().items() if HARMFUL in key)
            if content in seen:
                raise InputError(f"harmful_too: {name} has the same content as {seen[content]}; name each task once")
            seen[content] = name

    @property
    def title(self) -> str:
        """As the source has it."""
        return self.source.title

    @property
    def features(self) -> int:
        """The same for all."""
        return self._first.features

    @property
    def network(self) -> "Backbone | None":
        """The same for all."""
        return self._first.network

    @property
    def head(self) -> Head | None:
        """The same for all."""
        return self._first.head

    @property
    def network_data(self) -> NetworkData | None:
        """Of all images."""
        first, *others = (one.network_data for one in self.each)
        if first is None:
            return None
        return replace(
            first, harmful_too={f"{HARMFUL} {number}": of.harmful for number, of in enumerate(others, 2) if of}
        )

    @cached_property
    def _pairs(self) -> dict[str, TaskPair]:
        found = [one.pairs() for one in self.each]
        joined = {}
        for part, pair in found[0].items():
            if not all(part in pairs for pairs in found):
                continue
            with naming("harmful_too", "harmful"):
                harmful = join_tasks([pairs[part].harmful for pairs in found])
            joined[part] = TaskPair(pair.primary, jax.tree.map(jnp.asarray, harmful))
        return joined

    def pairs(self) -> dict[str, TaskPair]:
        """The harmful tasks as one, by those parts that all have."""
        return self._pairs

    def check_loss(self, loss: losses.Loss) -> None:
        """Refuses: attackers are of one task."""
        del loss
        self._refuse()

    def attacked(self, loss: losses.Loss) -> NoReturn:
        """The same."""
        del loss
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise InputError(f"harmful: attackers have one task, and there are {len(self.each)}; name one")

    def published_primary(self) -> "Mapping[str, Labelled]":
        """The same for all."""
        return self._first.published_primary()

    def checksums(self) -> dict[str, str]:
        """Of the primary task and of each harmful one; those from the second on under "harmful 2" and so on."""
        found: dict[str, str] = {}
        for number, one in enumerate(self.each, 1):
            for key, value in one.checksums().items():
                found[key if number == 1 else _named(key, f"{HARMFUL} {number}")] = value
        return found

    def check_batch_size(self, batch_size: int | None) -> None:
        """As each of them."""
        for one in self.each:
            one.check_batch_size(batch_size)

    def check_method(self, method: Method) -> None:
        """As each of them."""
        for one in self.each:
            one.check_method(method)


def checksums_of_each(found: Mapping[str, str]) -> list[dict[str, str]]:
    """Checksums as a subject of each harmful task alone has them, of those of `SeveralHarmful`."""
    tasks = dict.fromkeys(word for key in found for word in key.split(".") if word.startswith(HARMFUL))
    shared = {key: value for key, value in found.items() if not tasks.keys() & key.split(".")}
    return [
        shared | {_named(key, HARMFUL, task): value for key, value in found.items() if task in key.split(".")}
        for task in tasks
    ]


def _named(key: str, name: str, of: str = HARMFUL) -> str:
    """The name of a checksum with another name of the task."""
    return ".".join(name if word == of else word for word in key.split("."))
