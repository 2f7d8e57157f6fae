"""What is given in Python, as the settings of `cimm immunize` that it stands for: names and values are the command's."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np

from cimm_jax.commands.settings import Immunize
from cimm_jax.data.feature_table import FeatureParts, FeatureTable, check_alike, make_table
from cimm_jax.errors import InputError
from cimm_jax.runs.codec import decode
from cimm_jax.tasks import as_numbers

__all__ = ["ARRAYS", "FILES", "features_of", "immunize_settings", "table_of"]

FILES = {"primary": "primary.npz", "harmful": "harmful.npz"}
"""What the files are called that features given as arrays are saved in."""

ARRAYS = ("x", "y", "x_heldout", "y_heldout")
"""Of a mapping, as .npz files of own features have them."""

_NOT_ASKED = ("config", "json", "out", "track")
"""Settings that only a command has."""


def immunize_settings(primary: Any, harmful: Any, given: Mapping[str, Any]) -> Immunize:
    """The settings of the command.

    Args:
      primary: a path, or anything else for features.
      harmful: the same.
      given: settings by name, in Python's or the command's types: a budget may be a number.

    Raises:
      InputError: for a name that is no setting, with the nearest that are, or a value of another type.
    """
    hints = get_type_hints(Immunize)
    known = {field.name for field in fields(Immunize)} - {*_NOT_ASKED, *FILES}
    tasks = zip(FILES.items(), (primary, harmful), strict=True)
    values: dict[str, Any] = {name: os.fspath(task) if _is_path(task) else file for (name, file), task in tasks}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            advice = f"did you mean {' or '.join(near)}?" if near else "cimm immunize --help lists those that there are"
            raise InputError(f"{name}: is no setting; {advice}")
        if value is None:
            continue
        try:
            values[name] = decode(hints[name], _plain(name, value))
        except InputError as error:
            raise InputError(f"{name}: cannot be {value!r} ({error})") from error
    return Immunize(**values)


def features_of(task: Any, name: str) -> FeatureParts | None:
    """Features that were given as arrays; None for a path.

    Args:
      task: features of shape (N, d); features and labels as a pair, such as a `Task`; a mapping of `ARRAYS`; or a path.
      name: what messages call it.

    Raises:
      InputError: for anything else, and as `feature_table.make_table`.
    """
    if _is_path(task):
        return None
    if isinstance(task, Mapping):
        if (surplus := set(task) - set(ARRAYS)) or "x" not in task:
            wrong = f"has {', '.join(sorted(map(str, surplus)))}" if surplus else "lacks x"
            raise InputError(f"{name}: {wrong}; give x, and perhaps y, x_heldout and y_heldout")
        x, y, x_heldout, y_heldout = (task.get(array) for array in ARRAYS)
    else:
        x, y = task if isinstance(task, tuple) and len(task) == 2 else (task, None)
        x_heldout = y_heldout = None
    train = table_of(x, y, f"{name}: x")
    if x_heldout is None:
        return FeatureParts(train, None)
    heldout = table_of(x_heldout, y_heldout, f"{name}: x_heldout")
    check_alike(train, heldout)
    return FeatureParts(train, heldout)


def table_of(x: Any, y: Any, where: str) -> FeatureTable:
    """Features and labels, None for none, as an array of objects too, as tables have them.

    Raises:
      InputError: as `feature_table.make_table`, and for labels that are neither all text nor all numbers.
    """
    labels = None if y is None else np.asarray(y)
    if labels is not None and labels.dtype == object:
        text = all(isinstance(label, str) for label in labels.ravel())
        labels = labels.astype(str) if text else np.asarray(as_numbers(labels, f"{where}, its labels"))
    return make_table(np.asarray(as_numbers(x, where)), labels, where)


def _plain(name: str, value: Any) -> Any:
    """A value as a file of settings would have it."""
    if _is_path(value):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_plain("", item) for item in value]
    value = value.item() if isinstance(value, np.generic) else value
    return str(value) if name == "budget" else value


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)
