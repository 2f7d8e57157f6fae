"""Images from wherever they are: one function that looks at what it is given."""

import os
from collections.abc import Sequence
from pathlib import Path

from cimm_jax.data.class_list import ClassList
from cimm_jax.data.image_arrays import (
    CIFAR_SIZE,
    DIGITS_SIZE,
    is_mnist,
    load_cifar10,
    load_digit_images,
    load_mnist_in_colour,
)
from cimm_jax.data.image_decoding import fitted
from cimm_jax.data.image_fitting import Fit
from cimm_jax.data.image_folder import load_image_folder
from cimm_jax.data.image_set import SplitImages
from cimm_jax.data.image_tfds import is_tfds, load_tfds
from cimm_jax.errors import InputError
from cimm_jax.files import check_name

__all__ = ["DIGITS", "load_images"]

DIGITS = "digits"
"""Names the embedded images; a folder of that name is ./digits."""


def load_images(
    source: str | Path,
    *,
    size: int,
    classes: Sequence[str] | None = None,
    only: ClassList | None = None,
    image_rows: int | None = None,
    strict: bool = False,
    fit: Fit = fitted,
) -> SplitImages:
    """A folder of images, one with MNIST's IDX files (in colour, 32x32), an .npz file of CIFAR-10, tfds:NAME, or "digits".

    Args:
      source: the folder or file, or a data set as in `image_tfds`.
      size: height and width that the network takes.
      classes: of an image folder, names in the order of the labels.
      only: the classes to use; all if None.
      image_rows: of all but folders of images, at most how many images of each part.
      strict: refuse images that cannot be decoded, which are skipped otherwise.
      fit: how images of other sizes are brought to it; those of MNIST, CIFAR-10 and the digits have theirs.

    Raises:
      InputError: as the loaders do, or if a setting belongs to another kind, or the network takes another size.
    """
    if image_rows is not None and image_rows < 2:
        raise InputError(f"image_rows: needs at least 2, got {image_rows}")
    check_name(Path(source), "images")
    if is_tfds(source):
        if classes is not None:
            raise InputError(f"classes: those of {source} are known; leave it out")
        return load_tfds(str(source), size=size, rows=image_rows, only=only, strict=strict, fit=fit)
    if str(source) == DIGITS:
        if classes is not None:
            raise InputError(f"classes: those of {source} are known; leave it out")
        _check_size(source, DIGITS_SIZE, size)
        return load_digit_images(rows=image_rows, only=only)
    path = Path(source)
    is_file = os.path.isfile(path)
    if not is_file and not is_mnist(path):
        if image_rows is not None:
            raise InputError(f"image_rows: {path} is a folder of images, which is taken whole; leave it out")
        return load_image_folder(path, size=size, classes=classes, only=only, strict=strict, fit=fit)
    if classes is not None:
        raise InputError(f"classes: those of {path} are known; leave it out")
    _check_size(path, CIFAR_SIZE, size)
    loader = load_cifar10 if is_file else load_mnist_in_colour
    return loader(path, rows=image_rows, only=only)


def _check_size(source: str | Path, found: int, size: int) -> None:
    if size != found:
        raise InputError(f"images: {source} has images of {found} pixels, the network takes {size}; choose another")
