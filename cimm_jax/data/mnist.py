"""MNIST: the four original IDX files from a folder, or TensorFlow Datasets."""

import contextlib
import gzip
import hashlib
import math
import os
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cimm_jax.data.digit_images import DigitImages
from cimm_jax.errors import InputError, one_line
from cimm_jax.files import UnreadableError, open_regular, read_regular

__all__ = ["DEVIATION", "FILES", "MEAN", "MOST_BYTES", "IdxFile", "load_mnist"]

MEAN, DEVIATION = 0.1307, 0.3081
"""The paper's normalisation of pixels in [0, 1]."""

MOST_BYTES = 16 + 60_000 * 28 * 28
"""Of a file, unpacked: the training images. A packed one may unpack to a thousand times its size."""

_CURE = "download it again"


class IdxFile(NamedTuple):
    """What a file must be.

    Attributes:
      name: its name, without the .gz of the packed form.
      axes: how many axes its array of bytes has.
      sha256: checksum of the unpacked content.
    """

    name: str
    axes: int
    sha256: str


FILES = (
    IdxFile("train-images-idx3-ubyte", 3, "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    IdxFile("train-labels-idx1-ubyte", 1, "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    IdxFile("t10k-images-idx3-ubyte", 3, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    IdxFile("t10k-labels-idx1-ubyte", 1, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)


def load_mnist(data_dir: Path | None = None, *, files: Sequence[IdxFile] = FILES) -> DigitImages:
    """60,000 training and 10,000 held-out images of 784 pixels.

    Args:
      data_dir: folder with the four IDX files, gzipped or not; None asks TensorFlow Datasets, which gives the same
        images in another order.
      files: training images, training labels, held-out images and held-out labels.

    Raises:
      InputError: if a file is missing, damaged or another than the original, or TensorFlow Datasets cannot provide it.
    """
    return _normalised(*(_from_tfds() if data_dir is None else [_read_idx(data_dir, file) for file in files]))


def _read_idx(folder: Path, file: IdxFile) -> np.ndarray:
    packed, plain = folder / f"{file.name}.gz", folder / file.name
    path = packed if os.path.exists(packed) else plain
    if not os.path.exists(path):
        raise InputError(
            f"--data-dir: {folder} has neither {packed.name} nor {plain.name}; put the MNIST IDX files there"
        )
    content = _unpacked(path) if path == packed else read_regular(path, "--data-dir", most=MOST_BYTES, cure=_CURE)
    array = _parse_idx(content, path, file.axes)
    got = hashlib.sha256(content).hexdigest()
    if got != file.sha256:
        raise InputError(f"--data-dir: {path} has SHA-256 {got}, expected {file.sha256}; download the original again")
    return array


def _unpacked(path: Path) -> bytes:
    with open_regular(path, "--data-dir", most=MOST_BYTES, cure=_CURE) as file:
        try:
            content = gzip.GzipFile(fileobj=file).read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableError("--data-dir", path, one_line(error), _CURE) from error
    if len(content) > MOST_BYTES:
        raise UnreadableError("--data-dir", path, f"unpacks to more than {MOST_BYTES:,} bytes", _CURE)
    return content


def _parse_idx(content: bytes, path: Path, axes: int) -> np.ndarray:
    """The array in an IDX file, which holds 0, 0, 8 for unsigned bytes, the number of axes, their lengths, the data."""
    magic, header = bytes([0, 0, 8, axes]), 4 + 4 * axes
    if content[:4] != magic:
        raise InputError(
            f"--data-dir: {path} starts with 0x{content[:4].hex()}, expected 0x{magic.hex()}; download it again"
        )
    shape = struct.unpack(f">{axes}I", content[4:header].ljust(4 * axes, b"\0"))
    if len(content) != header + math.prod(shape):
        raise InputError(
            f"--data-dir: {path} has {len(content)} bytes, but its header says {header} + {math.prod(shape)}; "
            "download it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _from_tfds() -> list[np.ndarray]:
    try:
        import tensorflow_datasets as tfds

        # TFDS prints its progress, and standard output belongs to the caller's results.
        with contextlib.redirect_stdout(sys.stderr):
            sources: Any = tfds.data_source("mnist", split=["train", "test"])
            # Listed once, since every pass over a source decodes its images anew.
            return [np.stack([row[key] for row in rows]) for rows in map(list, sources) for key in ("image", "label")]
    except Exception as error:  # TFDS raises whatever its downloader, TensorFlow or the file system raises
        raise InputError(
            f"data: TensorFlow Datasets cannot provide mnist ({one_line(error)}); give --data-dir with the four IDX "
            "files, or install cimm_jax[tfds] and connect to a network"
        ) from error


def _normalised(
    train_images: np.ndarray, train_labels: np.ndarray, heldout_images: np.ndarray, heldout_labels: np.ndarray
) -> DigitImages:
    def pixels(images: np.ndarray) -> np.ndarray:
        return (images.reshape(len(images), -1) / 255 - MEAN) / DEVIATION

    return DigitImages(
        pixels(train_images), train_labels.astype(np.int64), pixels(heldout_images), heldout_labels.astype(np.int64)
    )
