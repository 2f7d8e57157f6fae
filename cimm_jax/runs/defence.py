"""What a method made and what is published: a map behind features, or trained blocks of a network.

Whoever measures or attacks a defence asks it for features and does not ask what it is.
"""

from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from cimm_jax.attacks import UNDEFENDED, Target, behind
from cimm_jax.closed_form.heads import Head, PrimaryKept, primary_kept
from cimm_jax.data.tensor_file import FLOATS, open_tensors
from cimm_jax.errors import InputError
from cimm_jax.files import write_whole
from cimm_jax.measures.extraction import Extraction, check_extractor, extract
from cimm_jax.numerics import losses
from cimm_jax.runs.published import Published
from cimm_jax.runs.published_file import write_published
from cimm_jax.runs.subject import Subject
from cimm_jax.tasks import SplitTask

__all__ = ["MOST_BYTES", "THETA_FILE", "Defence", "MapDefence", "undefended"]

THETA_FILE = "theta.safetensors"
"""In a run folder: the map in the precision that it was made in, which attackers are given."""

MOST_BYTES = 1 << 31
"""Of a file with a map: one of 16,384 features in float64."""


class Defence(Protocol):
    """What is published instead of the undefended extractor."""

    @property
    def name(self) -> str:
        """Of the method, or of the folder that it was read from."""
        ...

    @property
    def trained_from(self) -> str | None:
        """The first trained block; None for a map."""
        ...

    def check(self, subject: Subject) -> None:
        """Raises `InputError` unless the defence fits the subject."""
        ...

    def extractions(self, subject: Subject) -> dict[str, Extraction]:
        """Features before and after, by part."""
        ...

    def target(self, subject: Subject, task: str, undefended: SplitTask, loss: losses.Loss) -> Target:
        """What attackers of a task see, float64.

        Args:
          subject: what is attacked.
          task: "harmful", "primary" or "benign".
          undefended: the same task on undefended features.
          loss: of the attackers.
        """
        ...

    def kept(self, subject: Subject) -> dict[str, PrimaryKept] | None:
        """What the primary task as published lost, by part; None if there is no network."""
        ...

    def published(self, subject: Subject) -> Published | None:
        """What somebody downloads; None if there is no network."""
        ...

    def write(self, folder: Path, subject: Subject) -> tuple[str, ...]:
        """Writes what is to be published into the folder, and returns the files' names."""
        ...


class MapDefence:
    """A linear map behind the features; a network's head absorbs its inverse, or is refitted if it has none.

    Args:
      name: of the method, or of the folder it was read from.
      theta: shape (d, d).
    """

    trained_from = None

    def __init__(self, name: str, theta: jax.Array | np.ndarray):
        self.name, self.theta = name, theta

    @classmethod
    def read(cls, name: str, folder: Path) -> "MapDefence":
        """The map in a run folder; raises `InputError` if it is missing, damaged, or no finite square matrix."""
        path = folder / THETA_FILE
        with open_tensors(path, "runs", most=MOST_BYTES, cure="immunize again") as file:
            of = file.tensors.get("theta")
            if of is None or of.dtype not in FLOATS or len(of.shape) != 2 or of.shape[0] != of.shape[1]:
                found = "nothing" if of is None else f"{of.dtype} {of.shape}"
                raise InputError(f"runs: {path} has {found} as theta, which needs floats (d, d); immunize again")
            theta = file.array("theta").astype(np.float64)
        if not np.isfinite(theta).all():
            raise InputError(f"runs: {path} has numbers in theta that are not finite; immunize again")
        return cls(name, theta)

    def check(self, subject: Subject) -> None:
        """As the protocol has it."""
        check_extractor(self.theta, subject.pairs()["train"], f"theta of {self.name}")

    def extractions(self, subject: Subject) -> dict[str, Extraction]:
        """The map behind undefended features."""
        return {part: extract(jnp.asarray(self.theta), pair) for part, pair in subject.pairs().items()}

    def target(self, subject: Subject, task: str, undefended: SplitTask, loss: losses.Loss) -> Target:
        """The same, and the map itself for those who know it."""
        del subject, task, loss
        return behind(jnp.asarray(self.theta), undefended)

    def kept(self, subject: Subject) -> dict[str, PrimaryKept] | None:
        """The published head against the one behind the map."""
        if (head := subject.head) is None:
            return None
        theta, behind_map = np.asarray(self.theta, np.float32), self._head(head, subject)
        return {
            part: primary_kept(
                head.logits(plain.x), behind_map.logits(np.asarray(plain.x, np.float32) @ theta), plain.labels
            )
            for part, plain in subject.published_primary().items()
        }

    def published(self, subject: Subject) -> Published | None:
        """The published network, the map behind it, and the head behind that."""
        if subject.network is None or subject.head is None:
            return None
        theta = np.asarray(self.theta)
        if np.array_equal(theta, np.eye(len(theta))):
            return Published(subject.network, None, subject.head)
        return Published(subject.network, theta.astype(np.float32), self._head(subject.head, subject))

    def write(self, folder: Path, subject: Subject) -> tuple[str, ...]:
        """The map; of a network it is inside the one file that is published, with the head behind it."""
        write_whole(folder / THETA_FILE, save({"theta": np.asarray(self.theta)}))
        if (published := self.published(subject)) is None:
            return (THETA_FILE,)
        return write_published(folder, published, subject, self)

    def _head(self, head: Head, subject: Subject) -> Head:
        if self._behind is None:
            self._behind = head.behind(np.asarray(self.theta), np.asarray(subject.published_primary()["train"].x))
        return self._behind

    _behind: Head | None = None


def undefended(subject: Subject) -> MapDefence:
    """The extractor as it was published: the identity map."""
    return MapDefence(UNDEFENDED, jnp.eye(subject.features))
