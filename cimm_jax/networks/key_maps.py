"""What each publisher calls the tensors of a network, and how it lays them out.

A key map lists every tensor of a file once: its key, the paths of the model's arrays that it is made of, and its layout.
It is read forwards by `load_weights` and backwards by `export_weights`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "CONV",
    "HALF_OF_BIAS",
    "LINEAR",
    "PLAIN",
    "VARIANCE",
    "Blend",
    "Entry",
    "KeyMap",
    "Layout",
    "Path",
    "batch_norm_entries",
    "bias_entries",
    "conv_entries",
    "conv_norm_entries",
    "half_of_kernel",
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
      leading: how many axes of length 1 the model's array has before those of the file.
    """

    to_model: tuple[int, ...] | None
    to_file: tuple[int, ...] | None
    leading: int = 0

    def read(self, array: np.ndarray) -> np.ndarray:
        """The file's tensor as the model wants it."""
        array = array.reshape((1,) * self.leading + array.shape)
        return array if self.to_model is None else array.transpose(self.to_model)

    def write(self, array: np.ndarray) -> np.ndarray:
        """The model's array as the file wants it."""
        array = array if self.to_file is None else array.transpose(self.to_file)
        return array.reshape(array.shape[self.leading :])

    def file_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Of the file's tensor, for an array of this shape in the model."""
        return (shape if self.to_file is None else tuple(shape[axis] for axis in self.to_file))[self.leading :]


PLAIN = Layout(None, None)
LINEAR = Layout((1, 0), (1, 0))  # (outputs, inputs) <-> (inputs, outputs)
CONV = Layout((2, 3, 1, 0), (3, 2, 0, 1))  # OIHW <-> HWIO


class Blend(NamedTuple):
    """How a tensor of a file is a part of one of the model's arrays.

    Attributes:
      rows: first and one past the last of the array's rows that it is; None if of all.
      read: what it is multiplied by there, before all that are of the same rows are added.
      written: what these rows are multiplied by to give it.
    """

    rows: tuple[int, int] | None
    read: float
    written: float


def half_of_kernel(first: int, width: int) -> Blend:
    """Of a head that is the mean of two heads on other features each: the rows of one of them."""
    return Blend((first, first + width), 0.5, 2.0)


HALF_OF_BIAS = Blend(None, 0.5, 1.0)
"""The same for their biases, of which only the mean is known after training: both are written as it."""


class Entry(NamedTuple):
    """One tensor of a file.

    Attributes:
      key: its name.
      paths: the model's arrays that lie one after the other along its first axis; mostly one.
      layout: of each.
      blend: if it is only a part of the one array.
    """

    key: str
    paths: tuple[Path, ...]
    layout: Layout
    blend: Blend | None = None

    def file_shape(self, shapes: Mapping[Path, tuple[int, ...]]) -> tuple[int, ...]:
        """Of the tensor, by the shapes of the model's arrays."""
        parts = [self.layout.file_shape(self._rows_of(shapes[path])) for path in self.paths]
        return (sum(part[0] for part in parts), *parts[0][1:]) if len(parts) > 1 else parts[0]

    def read_into(
        self, arrays: dict[Path, np.ndarray], shapes: Mapping[Path, tuple[int, ...]], found: np.ndarray
    ) -> None:
        """Puts the file's tensor where it belongs among the model's arrays."""
        parts = np.split(found, len(self.paths)) if len(self.paths) > 1 else [found]
        for path, part in zip(self.paths, parts, strict=True):
            array = self.layout.read(part)
            if self.blend is None:
                arrays[path] = array
                continue
            whole = arrays.setdefault(path, np.zeros(shapes[path], np.float32))
            whole[slice(*(self.blend.rows or (None, None)))] += np.float32(self.blend.read) * array

    def written(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The file's tensor, made of the model's arrays at `paths`."""
        if self.blend is not None:
            array = arrays[0][slice(*(self.blend.rows or (None, None)))]
            return np.ascontiguousarray(self.layout.write(array * np.asarray(self.blend.written, array.dtype)))
        parts = [self.layout.write(array) for array in arrays]
        return np.ascontiguousarray(np.concatenate(parts) if len(parts) > 1 else parts[0])

    def _rows_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.blend is None or self.blend.rows is None:
            return shape
        first, end = self.blend.rows
        return (end - first, *shape[1:])


@dataclass(frozen=True)
class KeyMap:
    """One publisher's names for one architecture.

    Attributes:
      name: what `Config.names` calls it.
      entries: every tensor of a network of the given configuration.
      settings: fields of the configuration that this publisher's networks have otherwise than the default.
      others: how the keys of tensors begin that a file may have besides, such as those of CLIP's text tower.
    """

    name: str
    entries: Callable[[Any], list[Entry]]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    others: tuple[str, ...] = ()


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
