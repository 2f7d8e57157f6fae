"""Somebody's own features: a file of any known format, or a folder of them, perhaps in a training and a held-out part."""

import os
from collections.abc import Callable
from pathlib import Path

from cimm_jax.data.feature_arrays import LABELS_SUFFIX, read_npy, read_npz, read_safetensors
from cimm_jax.data.feature_columns import read_csv, read_parquet
from cimm_jax.data.feature_table import FeatureParts, FeatureTable, check_alike, concatenated
from cimm_jax.errors import InputError, few
from cimm_jax.files import check_name, entries

__all__ = ["FORMATS", "TEST_NAMES", "read_features"]

FORMATS: dict[str, Callable[[Path, str, str | None], FeatureParts]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    ".safetensors": read_safetensors,
    ".parquet": read_parquet,
    ".csv": read_csv,
}
"""Who reads a file, by the end of its name: a function of the path, the argument and the name of the labels."""

TRAIN_NAME, TEST_NAMES = "train", ("heldout", "test")
"""What the parts of a folder are called: folders, or files without the ends of their names."""

_CURE = "give a file or a folder of features"


def read_features(path: Path, argument: str, label: str | None = None) -> FeatureParts:
    """What a file or folder holds.

    A folder has files of one format, which are put one after the other in alphabetical order, or a part called train and one
    called heldout or test, each a file or such a folder. What begins with a dot or an underscore is left alone.

    Args:
      path: of the file or folder.
      argument: what messages call it.
      label: the column or array of the labels; None is y or label, if it is there.

    Raises:
      InputError: if it is missing, empty, damaged, of an unknown format, or its files do not fit together.
    """
    check_name(path, argument)
    if not os.path.isdir(path):
        return _read_file(path, argument, label)
    found = {place.stem: place for place in _visible(path, argument)}
    test = next((name for name in TEST_NAMES if name in found), None)
    if test is None and TRAIN_NAME not in found:
        return _read_folder(path, argument, label)
    if test is None or TRAIN_NAME not in found:
        missing = TRAIN_NAME if test is not None else " or ".join(TEST_NAMES)
        raise InputError(f"{argument}: {path} has no {missing} beside {test or TRAIN_NAME}; add it, or rename that")
    train, heldout = (_read_part(found[name], argument, label) for name in (TRAIN_NAME, test))
    return _checked(FeatureParts(train, heldout))


def _read_part(path: Path, argument: str, label: str | None) -> FeatureTable:
    read = _read_folder if os.path.isdir(path) else _read_file
    train, heldout = read(path, argument, label)
    if heldout is not None:
        raise InputError(f"{argument}: {path} is one part, and has a held-out part of its own; leave one of them out")
    return train


def _read_folder(path: Path, argument: str, label: str | None) -> FeatureParts:
    files = _visible(path, argument)
    if not files:
        raise InputError(f"{argument}: {path} has no files; {_CURE}")
    formats = sorted({file.suffix for file in files})
    if len(formats) > 1:
        endings = few([ending or "no ending" for ending in formats])
        raise InputError(f"{argument}: {path} has files of several formats ({endings}); keep one of them")
    parts = [_read_file(file, argument, label) for file in files]
    if len({part.heldout is None for part in parts}) > 1:
        without = next(file for file, part in zip(files, parts, strict=True) if part.heldout is None)
        raise InputError(f"{argument}: {without} has no held-out part, and others in its folder do; make them alike")
    train = concatenated([part.train for part in parts], f"{argument}: {path}")
    heldout = [part.heldout for part in parts if part.heldout is not None]
    return _checked(FeatureParts(train, concatenated(heldout, f"{argument}: {path}, held out,") if heldout else None))


def _read_file(path: Path, argument: str, label: str | None) -> FeatureParts:
    if not os.path.exists(path):
        raise InputError(f"{argument}: {path} is missing; {_CURE}")
    if path.suffix not in FORMATS:
        kind = "a folder" if os.path.isdir(path) else f"no file of a known format ({path.suffix or 'no ending'})"
        raise InputError(f"{argument}: {path} is {kind}; give files that end in one of {', '.join(FORMATS)}")
    return _checked(FORMATS[path.suffix](path, argument, label))


def _checked(parts: FeatureParts) -> FeatureParts:
    if parts.heldout is not None:
        check_alike(parts.train, parts.heldout)
    return parts


def _visible(path: Path, argument: str) -> list[Path]:
    found = entries(path, argument, cure=_CURE)
    return [place for place in found if place.name[0] not in "._" and not place.name.endswith(LABELS_SUFFIX)]
