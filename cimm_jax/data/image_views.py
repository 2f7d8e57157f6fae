"""Several views of each image: as it is, and augmented at random, the same ones whenever and wherever they are made."""

import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from cimm_jax.data.image_set import ImageSet, Pixels
from cimm_jax.errors import InputError

__all__ = ["MOST_VIEWS", "Augmentation", "ViewPixels", "check_views", "with_views"]

MOST_VIEWS = 1000
"""Of an image; every view has its row among the features, and a longer training sees each less than once."""

Augmentation = Callable[[Pixels, int, np.random.Generator], np.ndarray]
"""(images, index, random numbers) -> a view, uint8 of shape (size, size, 3). Its text must name all of its settings."""


class ViewPixels:
    """Views of images, made when they are asked for: all images as they are, then the second view of each, and so on."""

    def __init__(self, pixels: Pixels, views: int, augmentation: Augmentation, seed: int):
        self._pixels, self._views, self._augmentation, self._seed = pixels, views, augmentation, seed

    def __len__(self) -> int:
        return self._views * len(self._pixels)

    def __getitem__(self, index: int) -> np.ndarray:
        view, image = divmod(int(index), len(self._pixels))
        if view == 0:
            return self._pixels[image]
        return self._augmentation(self._pixels, image, np.random.default_rng((self._seed, view, image)))

    def original(self, index: int) -> AbstractContextManager[np.ndarray]:
        """The image that it is a view of, before it is brought to the size."""
        return self._pixels.original(int(index) % len(self._pixels))


def check_views(views: int) -> None:
    """Raises `InputError` if there is less than one view, or more than `MOST_VIEWS`."""
    if not 1 <= views <= MOST_VIEWS:
        raise InputError(f"views: needs at least 1 (the images as they are) and at most {MOST_VIEWS}, got {views}")


def with_views(images: ImageSet, views: int, augmentation: Augmentation, *, seed: int = 0) -> ImageSet:
    """An image set of views N images, view by view; the first N are the images as they are.

    Args:
      images: N images.
      views: of each; 1 leaves the set as it is.
      augmentation: makes every view but the first, such as `PaddedCrop`.
      seed: seeds the views. Each depends on nothing but the seed, its number and the image's.

    Raises:
      InputError: as `check_views`, or if the images have several views already.
    """
    check_views(views)
    if images.views > 1:
        raise InputError(f"images: have {images.views} views already; give them as they are")
    if views == 1:
        return images
    digest = hashlib.sha256(f"{images.sha256} {views} {augmentation} {seed}".encode())
    return dataclasses.replace(
        images,
        pixels=ViewPixels(images.pixels, views, augmentation, seed),
        labels=np.tile(images.labels, views),
        sha256=digest.hexdigest(),
        views=views,
    )
