"""Some of the classes of an image data set, chosen by name."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cimm_jax.errors import InputError, few, one_line
from cimm_jax.files import read_regular

__all__ = ["MOST_BYTES", "SHOWN", "Chosen", "ClassList", "choose", "read_class_list"]

MOST_BYTES = 1 << 20
"""Of a file of names; those of ImageNet's 21,841 classes take a third of it."""

SHOWN = 200
"""Known names that are listed where one is unknown."""


@dataclass(frozen=True)
class ClassList:
    """Classes whose images are used; the others are left out.

    Attributes:
      names: of the classes, at least two, each once.
      renumbered: whether labels are positions in `names`; if not, they stay what they are in the data set, as the head of a
        network that was trained on all classes needs them.
      setting: what messages call the list.

    Raises:
      InputError: if there are fewer than two names, or one comes twice.
    """

    names: tuple[str, ...]
    renumbered: bool = True
    setting: str = "classes"

    def __post_init__(self):
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if repeated:
            raise InputError(f"{self.setting}: {few(repeated)} named more than once; name each class once")
        if len(self.names) < 2:
            raise InputError(
                f"{self.setting}: needs at least 2 names, or a file with one a line, got {few(self.names)}"
            )


class Chosen(NamedTuple):
    """Which images of a data set to use.

    Attributes:
      indices: of the images, ascending, shape (N,), int64.
      labels: of these images, shape (N,), int64.
      classes: names, in the order of the labels.
      wanted: labels that there must be images of.
    """

    indices: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    wanted: frozenset[int]


def read_class_list(values: Sequence[str], *, renumbered: bool, setting: str) -> ClassList | None:
    """The list that names, or one text file with a name a line, stand for; None for nothing.

    Args:
      values: names, or the path of a file.
      renumbered: as in `ClassList`.
      setting: as in `ClassList`.

    Raises:
      InputError: if the file is no text, or as `ClassList`.
    """
    names = tuple(values)
    if len(names) == 1 and os.path.isfile(names[0]):
        content = read_regular(Path(names[0]), setting, most=MOST_BYTES, cure="give a text file with a name a line")
        try:
            lines = content.decode().splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"{setting}: {names[0]} is no text file ({one_line(error)})") from error
        names = tuple(filter(None, map(str.strip, lines)))
    elif not names:
        return None
    return ClassList(names, renumbered, setting)


def choose(labels: np.ndarray, classes: Sequence[str], only: ClassList | None, *, rows: int | None = None) -> Chosen:
    """The images of the listed classes, or of all, in their order.

    Args:
      labels: of all images, shape (N,).
      classes: names, in the order of the labels.
      only: the classes to use; all if None.
      rows: at most how many images; all if None.

    Raises:
      InputError: if a listed class is unknown, or there is no image of it among the rows.
    """
    labels, classes = np.asarray(labels, np.int64), tuple(classes)
    if only is None:
        return Chosen(np.arange(len(labels))[:rows], labels[:rows], classes, frozenset(range(len(classes))))
    place_of = {name: place for place, name in enumerate(classes)}
    unknown = [name for name in only.names if name not in place_of]
    if unknown:
        raise InputError(f"{only.setting}: {few(unknown)} unknown; choose among {few(classes, SHOWN)}")
    places = np.asarray([place_of[name] for name in only.names])
    indices = np.flatnonzero(np.isin(labels, places))[:rows]
    there = set(labels[indices].tolist())
    missing = [name for name in only.names if place_of[name] not in there]
    if missing:
        raise InputError(f"{only.setting}: no image of {few(missing)} among {len(indices)}; take more images")
    if not only.renumbered:
        return Chosen(indices, labels[indices], classes, frozenset(places.tolist()))
    position = np.zeros(len(classes), np.int64)
    position[places] = np.arange(len(places))
    return Chosen(indices, position[labels[indices]], only.names, frozenset(range(len(places))))
