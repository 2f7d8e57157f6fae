"""Features in files of arrays: .npy, .npz and .safetensors."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from cimm_jax.data.array_archive import Expected, described_arrays, read_arrays
from cimm_jax.data.feature_table import FeatureParts, FeatureTable, make_table
from cimm_jax.data.tensor_file import NUMBERS, open_tensors
from cimm_jax.errors import InputError, few, one_line
from cimm_jax.files import open_regular

__all__ = ["LABELS_SUFFIX", "MOST_BYTES", "read_npy", "read_npz", "read_safetensors"]

LABELS_SUFFIX = ".labels.npy"
"""Beside features.npy lie its labels, features.labels.npy."""

MOST_BYTES = 1 << 36
"""Of a file: 30 million rows of 512 features in float32."""

_MOST_ROWS = 1 << 31
_X, _X_HELDOUT = ("x", "x_train"), ("x_heldout", "x_test")
_Y, _Y_HELDOUT = ("y", "label", "labels", "y_train"), ("y_heldout", "label_heldout", "labels_heldout", "y_test")
_KINDS = "biufUS"
_CURE = "save the features again"

_Shapes = Mapping[str, tuple[int, ...]]


def read_npy(path: Path, argument: str, label: str | None) -> FeatureParts:
    """One array of shape (N, d), memory-mapped; labels in a file beside it (`LABELS_SUFFIX`), if there is one.

    Args:
      path: of the file.
      argument: what messages call it.
      label: must be None: there are no names.

    Raises:
      InputError: if either file is damaged or holds anything but numbers (labels: or text), or a label is named.
    """
    where = f"{argument}: {path}"
    if label is not None:
        raise InputError(f"label: {path} has no names; put labels beside it as {path.stem}{LABELS_SUFFIX}, or use .npz")
    beside = path.with_name(f"{path.stem}{LABELS_SUFFIX}")
    labels = _load(beside, argument) if beside.exists() else None
    return FeatureParts(make_table(_load(path, argument), labels, where), None)


def read_npz(path: Path, argument: str, label: str | None) -> FeatureParts:
    """Arrays by name: x (or the only array of two axes) with y, label or labels; x_heldout or x_test with y_heldout or y_test.

    Args:
      path: of the file.
      argument: what messages call it.
      label: name of the array of labels; its held-out ones have _heldout or _test behind it.

    Raises:
      InputError: if the file is damaged, or arrays are missing, unclear, or anything but numbers (labels: or text).
    """
    found = described_arrays(path, argument, most_bytes=MOST_BYTES)

    def read(name: str) -> np.ndarray:
        fitting = Expected(_KINDS, found[name][1], "numbers or text, and no pickled objects")
        return read_arrays(path, argument, {name: fitting}, most_rows=_MOST_ROWS, most_bytes=MOST_BYTES)[name]

    return _parts({name: shape for name, (_, shape) in found.items()}, read, label, f"{argument}: {path}")


def read_safetensors(path: Path, argument: str, label: str | None) -> FeatureParts:
    """Tensors by name, as `read_npz` has them; bfloat16 too. Arguments and errors are the same."""
    with open_tensors(path, argument, most=MOST_BYTES, cure=_CURE) as file:

        def read(name: str) -> np.ndarray:
            if (dtype := file.tensors[name].dtype) not in NUMBERS:
                raise InputError(f"{argument}: {path} has {dtype} as {name}; choose one of {', '.join(NUMBERS)}")
            return file.array(name)

        shapes = {name: of.shape for name, of in file.tensors.items()}
        return _parts(shapes, read, label, f"{argument}: {path}")


def _load(path: Path, argument: str) -> np.ndarray:
    with open_regular(path, argument, most=MOST_BYTES, cure=_CURE):
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # NumPy raises whatever the damage makes it
            raise InputError(f"{argument}: {path} is no whole .npy file ({one_line(error)}); {_CURE}") from error


def _parts(shapes: _Shapes, read: Callable[[str], np.ndarray], label: str | None, where: str) -> FeatureParts:
    """Both parts from the arrays of a file by their names."""
    wanted = _Y if label is None else (label,)
    heldout_wanted = _Y_HELDOUT if label is None else (f"{label}_heldout", f"{label}_test")
    if label is not None and label not in shapes:
        raise InputError(f"label: {where} has no {label}; it has {few(list(shapes))}")
    x_name, y_name = _features_of(shapes, {*wanted, *heldout_wanted}, where), _first(wanted, shapes)
    heldout_x, heldout_y = _first(_X_HELDOUT, shapes), _first(heldout_wanted, shapes)

    def table(x: str, y: str | None, name: str) -> FeatureTable:
        return make_table(read(x), None if y is None else read(y), name)

    train = table(x_name, y_name, where)
    if heldout_x is None:
        return FeatureParts(train, None)
    return FeatureParts(train, table(heldout_x, heldout_y, f"{where}, {heldout_x},"))


def _features_of(shapes: _Shapes, labels: set[str], where: str) -> str:
    """The name of the training features."""
    if (named := _first(_X, shapes)) is not None:
        return named
    matrices = [
        name for name, shape in shapes.items() if len(shape) == 2 and name not in _X_HELDOUT and name not in labels
    ]
    if len(matrices) == 1:
        return matrices[0]
    raise InputError(
        f"{where} has {len(matrices)} arrays of shape (rows, features) and none called x; it has "
        f"{few([f'{name} {shape}' for name, shape in shapes.items()])}; call the features x"
    )


def _first(names: tuple[str, ...], among: _Shapes) -> str | None:
    return next((name for name in names if name in among), None)
