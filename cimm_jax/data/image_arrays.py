"""Image sets that come as arrays: a subset of CIFAR-10 in one .npz file, MNIST in colour, and the digits that are embedded."""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np

from cimm_jax.data.array_archive import Expected, read_arrays
from cimm_jax.data.class_list import Chosen, ClassList, choose
from cimm_jax.data.digits import split_digits
from cimm_jax.data.image_set import ArrayPixels, ImageSet, SplitImages
from cimm_jax.data.mnist import DEVIATION, FILES, MEAN, load_mnist
from cimm_jax.errors import InputError, naming

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR_SIZE",
    "DIGITS_SIZE",
    "MOST_IMAGES",
    "is_mnist",
    "load_cifar10",
    "load_digit_images",
    "load_mnist_in_colour",
]

CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
CIFAR_SIZE, DIGITS_SIZE = 32, 8
MOST_IMAGES = 100_000
"""Of a part; the whole of CIFAR-10 has 60,000 images."""

_DIGITS = tuple(str(digit) for digit in range(10))
_PIXELS = Expected("u", (None, CIFAR_SIZE, CIFAR_SIZE, 3), "uint8 (N, 32, 32, 3)", itemsize=1)
_LABELS = Expected("iu", (None,), "integers (N,)")
_ARRAYS = {"x_train": _PIXELS, "y_train": _LABELS, "x_test": _PIXELS, "y_test": _LABELS}


def load_cifar10(path: Path, *, rows: int | None = None, only: ClassList | None = None) -> SplitImages:
    """CIFAR-10 from an .npz file with x_train, x_test (uint8, (N, 32, 32, 3)) and y_train, y_test (integers, (N,)).

    Args:
      path: the file.
      rows: at most how many images of each part; all if None.
      only: the classes to use; all if None.

    Raises:
      InputError: if the file cannot be read, lacks an array, or one has another dtype or shape, or as `choose`.
    """
    arrays = read_arrays(path, "images", _ARRAYS, most_rows=MOST_IMAGES)
    chosen = []
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(x) != len(y):
            raise InputError(f"images: {path} has {len(x)} images in x_{part} and {len(y)} labels in y_{part}")
        if not len(y) or y.min() < 0 or y.max() >= len(CIFAR10_CLASSES):
            raise InputError(f"images: y_{part} in {path} needs labels 0 to 9, got {_range(y)}")
        chosen.append((x, choose(y, CIFAR10_CLASSES, only, rows=rows)))
    return SplitImages(*(_image_set(x[part.indices], part) for x, part in chosen))


def load_mnist_in_colour(folder: Path, *, rows: int | None = None, only: ClassList | None = None) -> SplitImages:
    """MNIST as 32x32 RGB: two black pixels around, the same grey in three channels.

    Args:
      folder: with the four IDX files.
      rows: at most how many images of each part; all if None.
      only: the classes to use, by their digits; all if None.

    Raises:
      InputError: as `load_mnist` and `choose`.
    """
    with naming("images", "--data-dir"):
        images = load_mnist(folder)
    parts = ((images.train_x, images.train_y), (images.heldout_x, images.heldout_y))
    chosen = [(x, choose(y, _DIGITS, only, rows=rows)) for x, y in parts]
    sets = (_image_set(_coloured(x[part.indices]), part) for x, part in chosen)
    return SplitImages(*(dataclasses.replace(images, mirrored_alike=False) for images in sets))


def load_digit_images(*, rows: int | None = None, only: ClassList | None = None) -> SplitImages:
    """scikit-learn's digits, grey, 8x8: images of shape (N, 8, 8, 1), in the parts that `digits.split_digits` makes.

    Args:
      rows: at most how many images of each part; all if None.
      only: the classes to use, by their digits; all if None.

    Raises:
      InputError: as `choose`.
    """
    parts = [(np.rint(x * 255).astype(np.uint8).reshape(-1, DIGITS_SIZE, DIGITS_SIZE, 1), y) for x, y in split_digits()]
    chosen = [(x, choose(y, _DIGITS, only, rows=rows)) for x, y in parts]
    sets = (_image_set(x[part.indices], part) for x, part in chosen)
    return SplitImages(*(dataclasses.replace(images, mirrored_alike=False) for images in sets))


def is_mnist(folder: Path) -> bool:
    """Whether the folder has one of MNIST's files."""
    return any(os.path.exists(folder / f"{file.name}{suffix}") for file in FILES for suffix in ("", ".gz"))


def _range(labels: np.ndarray) -> str:
    return f"{labels.min()} to {labels.max()}" if len(labels) else "none"


def _coloured(x: np.ndarray) -> np.ndarray:
    """Normalised rows of 784 pixels back to bytes, (N, 32, 32, 3)."""
    grey = np.rint((x * DEVIATION + MEAN) * 255).astype(np.uint8).reshape(-1, 28, 28)
    return np.repeat(np.pad(grey, ((0, 0), (2, 2), (2, 2)))[..., None], 3, axis=-1)


def _image_set(images: np.ndarray, chosen: Chosen) -> ImageSet:
    digest = hashlib.sha256(f"{images.shape} ".encode())
    digest.update(images.tobytes())
    digest.update(chosen.labels.tobytes())
    return ImageSet(ArrayPixels(images), chosen.labels, chosen.classes, digest.hexdigest())
