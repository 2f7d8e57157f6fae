"""What each publisher calls the tensors of a network, and how it lays them out.

A key map lists every tensor of a file once: its key, the paths of the model's arrays that it is made of, and its layout.
It is read forwards by `load_weights` and backwards by `export_weights`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "CONV",
    "LINEAR",
    "PLAIN",
    "VARIANCE",
    "Entry",
    "KeyMap",
    "Layout",
    "Path",
    "batch_norm_entries",
    "bias_entries",
    "conv_entries",
    "conv_norm_entries",
    "layer_norm_entries",
    "linear_entries",
]

Path: TypeAlias = tuple[str, ...]
"""Where an array is in the model's flat state, such as ("parts", "stem", "first", "conv", "kernel")."""


VARIANCE = "var"
"""What a model calls stored variances, which have a sign that all networks rely on."""


class Layout(NamedTuple):
    """The order of axes in a file and in the model.

    Attributes:
      to_model: axes of the file's tensor in the model's order.
      to_file: the inverse permutation.
    """

    to_model: tuple[int, ...] | None
    to_file: tuple[int, ...] | None

    def read(self, array: np.ndarray) -> np.ndarray:
        """The file's tensor as the model wants it."""
        return array if self.to_model is None else array.transpose(self.to_model)

    def write(self, array: np.ndarray) -> np.ndarray:
        """The model's array as the file wants it."""
        return array if self.to_file is None else array.transpose(self.to_file)


PLAIN = Layout(None, None)
LINEAR = Layout((1, 0), (1, 0))  # (outputs, inputs) <-> (inputs, outputs)
CONV = Layout((2, 3, 1, 0), (3, 2, 0, 1))  # OIHW <-> HWIO


class Entry(NamedTuple):
    """One tensor of a file.

    Attributes:
      key: its name.
      paths: the model's arrays that lie one after the other along its first axis; mostly one.
      layout: of each.
    """

    key: str
    paths: tuple[Path, ...]
    layout: Layout


@dataclass(frozen=True)
class KeyMap:
    """One publisher's names for one architecture.

    Attributes:
      name: what `Config.names` calls it.
      entries: every tensor of a network of the given configuration.
      settings: fields of the configuration that this publisher's networks have otherwise than the default.
    """

    name: str
    entries: Callable[[Any], list[Entry]]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def conv_entries(key: str, path: Path) -> list[Entry]:
    """The kernel of a convolution."""
    return [Entry(f"{key}.weight", ((*path, "kernel"),), CONV)]


def bias_entries(key: str, *paths: Path) -> list[Entry]:
    """The bias of a layer, or of several that are stored as one."""
    return [Entry(f"{key}.bias", tuple((*path, "bias") for path in paths), PLAIN)]


def linear_entries(key: str, *paths: Path) -> list[Entry]:
    """A linear layer with bias, or several that are stored as one."""
    return [Entry(f"{key}.weight", tuple((*path, "kernel") for path in paths), LINEAR), *bias_entries(key, *paths)]


def layer_norm_entries(key: str, path: Path) -> list[Entry]:
    """Scale and bias of a normalisation."""
    return [Entry(f"{key}.weight", ((*path, "scale"),), PLAIN), *bias_entries(key, path)]


def batch_norm_entries(key: str, path: Path) -> list[Entry]:
    """The same with the stored statistics."""
    statistics = (("running_mean", "mean"), ("running_var", VARIANCE))
    return layer_norm_entries(key, path) + [
        Entry(f"{key}.{theirs}", ((*path, ours),), PLAIN) for theirs, ours in statistics
    ]


def conv_norm_entries(conv: str, norm: str, path: Path) -> list[Entry]:
    """A convolution without bias and its batch normalisation."""
    return conv_entries(conv, (*path, "conv")) + batch_norm_entries(norm, (*path, "norm"))
