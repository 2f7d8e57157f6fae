"""Images of TensorFlow Datasets, prepared as ArrayRecord: read at random, without TensorFlow.

A source is written tfds:NAME, as in tfds:cars196, or tfds:NAME@DIR for a data set in another folder than $TFDS_DATA_DIR or
~/tensorflow_datasets. NAME may hold a configuration and a version, as in tfds:imagenet2012:5.1.0.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cimm_jax.data.class_list import ClassList, choose
from cimm_jax.data.image_decoding import Decoded, UndecodableError, decoded, fitted
from cimm_jax.data.image_fitting import Fit
from cimm_jax.data.image_set import ImageSet, SplitImages
from cimm_jax.data.usable_images import usable
from cimm_jax.errors import InputError, few, one_line
from cimm_jax.files import check_name

__all__ = ["FOLDER_MARK", "HELDOUT", "PREFIX", "RECORDS", "TRAIN", "RecordPixels", "is_tfds", "load_tfds"]

PREFIX, FOLDER_MARK = "tfds:", "@"
TRAIN = "train"
HELDOUT = ("validation", "test")
"""Held-out splits, the preferred one first: the labels of some test splits, such as ImageNet's, are not public."""
RECORDS = 256
"""Records whose labels are read at once."""

_NAME = re.compile(r"\w*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?")
"""NAME, NAME/CONFIGURATION, and a version; TFDS takes other forms for what somebody else keeps, and would fetch and run it."""


class RecordPixels:
    """Images in records, decoded when they are asked for."""

    def __init__(self, records: Sequence[Any], indices: np.ndarray, size: int, fit: Fit):
        self._records, self._indices, self._size, self._fit = records, indices, size, fit

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> np.ndarray:
        with _opened(self._records, int(self._indices[index])) as image:
            return self._fit(image.pixels, self._size)

    @contextmanager
    def original(self, index: int) -> Iterator[np.ndarray]:
        """The image before it is brought to the size."""
        with _opened(self._records, int(self._indices[index])) as image:
            yield image.pixels


def load_tfds(
    source: str,
    *,
    size: int,
    rows: int | None = None,
    only: ClassList | None = None,
    strict: bool = False,
    fit: Fit = fitted,
) -> SplitImages:
    """Images and labels of a prepared data set, in the order it was prepared in. Each image used is decoded once here.

    Args:
      source: tfds:NAME or tfds:NAME@DIR.
      size: height and width to bring images to.
      rows: at most how many images of each part; all if None.
      only: the classes to use; all if None.
      strict: refuse images that cannot be decoded, which are skipped otherwise.
      fit: how.

    Raises:
      InputError: if the data set is unknown, not prepared as ArrayRecord, or has no images with labels and a split `train`,
        or as `choose` and `usable`.
    """
    name, _, folder = source.removeprefix(PREFIX).partition(FOLDER_MARK)
    check_name(source, "images")
    if not _NAME.fullmatch(name):
        raise InputError(
            f"images: {name!r} is no data set; write tfds:NAME, tfds:NAME/CONFIGURATION or tfds:NAME:1.0.0"
        )
    try:
        import tensorflow_datasets as tfds

        builder: Any = tfds.builder(name, data_dir=folder or None)
        found = builder.info.features
    except Exception as error:  # TFDS raises whatever its registry, its files or the code of the data set raise
        raise InputError(f"images: TensorFlow Datasets cannot open {name or 'no name'} ({one_line(error)})") from error
    features = dict(found.items()) if isinstance(found, tfds.features.FeaturesDict) else {}
    label, splits = features.get("label"), builder.info.splits
    if "image" not in features or not isinstance(label, tfds.features.ClassLabel):
        raise InputError(f"images: {name} has {few(list(features))}; give a data set with an image and a class label")
    if not splits:
        raise InputError(f"images: {name} is not prepared in {builder.data_dir}; {_how_to_prepare(name, folder)}")
    if TRAIN not in splits:
        raise InputError(f"images: {name} has the splits {', '.join(splits)}; give a data set with a split train")

    def part(split: str) -> ImageSet:
        try:
            records = builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})
        except (NotImplementedError, ValueError) as error:
            raise InputError(
                f"images: {name} is prepared in another format; {_how_to_prepare(name, folder)}"
            ) from error
        for path in builder.info.splits[split].filepaths:
            if not os.path.isfile(path):
                raise InputError(f"images: {path} is missing or no regular file; {_how_to_prepare(name, folder)}")
        try:
            labels = _labels(records, len(records) if only or rows is None else min(rows, len(records)))
        except Exception as error:  # a damaged file of records raises whatever the damage makes it
            raise InputError(
                f"images: {name} cannot be read ({one_line(error)}); {_how_to_prepare(name, folder)}"
            ) from error
        chosen = choose(labels, label.names, only, rows=rows)
        present = chosen._replace(wanted=frozenset(chosen.labels.tolist()))  # of few rows, some classes have none
        chosen, turned, skipped = usable(
            partial(_opened, records), present, name_of=_record_name, where=f"{source}, {split}", strict=strict
        )
        digest = hashlib.sha256(_identity(builder.info, split).encode())
        digest.update(chosen.indices.tobytes())
        digest.update(chosen.labels.tobytes())
        if turned.any():
            digest.update(turned.tobytes())
        pixels = RecordPixels(records, chosen.indices, size, fit)
        return ImageSet(pixels, chosen.labels, chosen.classes, digest.hexdigest(), skipped)

    heldout = next((split for split in HELDOUT if split in splits), None)
    return SplitImages(part(TRAIN), None if heldout is None else part(heldout))


def _opened(records: Sequence[Any], index: int) -> AbstractContextManager[Decoded]:
    try:
        content = records[index]["image"]
    except Exception as error:  # a damaged file of records raises whatever the damage makes it
        raise UndecodableError(_record_name(index), one_line(error), "prepare the data set again") from error
    return decoded(content, _record_name(index))


def _record_name(index: int) -> str:
    return f"record {index}"


def is_tfds(source: str | Path) -> bool:
    """Whether the source names a data set of TensorFlow Datasets."""
    return str(source).startswith(PREFIX)


def _labels(records: Any, count: int) -> np.ndarray:
    """Labels of the first records, shape (count,); a few records are in memory at a time."""
    chunks = (range(start, min(start + RECORDS, count)) for start in range(0, count, RECORDS))
    return np.asarray([record["label"] for chunk in chunks for record in records.__getitems__(list(chunk))], np.int64)


def _identity(info: Any, split: str) -> str:
    """What tells one prepared data set from another: its version, and the names and sizes of its files."""
    files = sorted((Path(path).name, Path(path).stat().st_size) for path in info.splits[split].filepaths)
    return json.dumps([info.full_name, split, info.splits[split].num_examples, files])


def _how_to_prepare(name: str, folder: str) -> str:
    place = f', data_dir="{folder}"' if folder else ""
    return (
        "install cimm_jax[tfds] and run once: python -c 'import tensorflow_datasets as tfds; "
        f'tfds.builder("{name}", file_format="array_record"{place}).download_and_prepare()\''
    )
