"""MNIST: the four original IDX files from a folder, or TensorFlow Datasets."""

import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np

from cimm_jax.data.digit_images import DigitImages
from cimm_jax.errors import InputError

CHECKSUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
"""SHA-256 of the unpacked files."""

MEAN, DEVIATION = 0.1307, 0.3081
"""The paper's normalisation of pixels in [0, 1]."""


def load_mnist(data_dir: Path | None = None, *, checksums: dict[str, str] = CHECKSUMS) -> DigitImages:
    """60,000 training and 10,000 held-out images of 784 pixels.

    Args:
      data_dir: folder with the four IDX files, gzipped or not; None asks TensorFlow Datasets.
      checksums: what the unpacked files must hash to.

    Raises:
      InputError: if a file is missing, damaged or another than the original, or TensorFlow Datasets cannot provide it.
    """
    if data_dir is None:
        return _from_tfds()
    parts = [_read_idx(data_dir, name, checksum) for name, checksum in checksums.items()]
    return _normalised(*parts)


def _read_idx(folder: Path, name: str, checksum: str) -> np.ndarray:
    packed, plain = folder / f"{name}.gz", folder / name
    path = packed if packed.exists() else plain
    try:
        content = gzip.decompress(path.read_bytes()) if path == packed else path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"--data-dir: {folder} has neither {packed.name} nor {name}; put the MNIST IDX files there") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"--data-dir: {path} cannot be read ({error}); download it again") from error
    got = hashlib.sha256(content).hexdigest()
    if got != checksum:
        raise InputError(f"--data-dir: {path} has SHA-256 {got}, expected {checksum}; download it again")
    axes = content[3]
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _from_tfds() -> DigitImages:
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder("mnist")
        builder.download_and_prepare(file_format="array_record")
        sources = [builder.as_data_source(split=split) for split in ("train", "test")]
        parts = [np.stack([np.asarray(row[key]) for row in source]) for source in sources for key in ("image", "label")]
    except Exception as error:  # TFDS raises whatever its downloader, TensorFlow or the file system raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"data: TensorFlow Datasets cannot provide mnist ({reason}); give --data-dir with the IDX files, "
            "or install the extra cimm_jax[tfds] and a network"
        ) from error
    return _normalised(*parts)


def _normalised(train_x, train_y, heldout_x, heldout_y) -> DigitImages:
    def pixels(images: np.ndarray) -> np.ndarray:
        return (images.reshape(len(images), -1) / 255 - MEAN) / DEVIATION

    return DigitImages(pixels(train_x), train_y.astype(np.int64), pixels(heldout_x), heldout_y.astype(np.int64))
