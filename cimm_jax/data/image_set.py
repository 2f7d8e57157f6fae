"""Images with labels, read when they are asked for: what every loader of images returns, and those of texts, as token ids."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

__all__ = ["READERS", "ArrayPixels", "ImageSet", "Pixels", "SplitImages"]

READERS = min(16, 2 * (os.cpu_count() or 1))
"""Threads that read and decode; decoding lets other threads run."""


class Pixels(Protocol):
    """Random access to images of one size, as grain's sources have it."""

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def __getitem__(self, index: int) -> np.ndarray:
        """One image, uint8 of shape (size, size, 3)."""
        ...

    def original(self, index: int) -> AbstractContextManager[np.ndarray]:
        """The same before it is brought to the size, uint8 of shape (height, width, 3); its memory is held meanwhile."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Images and what they show.

    Attributes:
      pixels: the images.
      labels: position of each image's class in `classes`, shape (N,), int64.
      classes: names, in the order of the labels.
      sha256: of the names and bytes of all files, and which of them were turned upright, or of the array: the same for the same
        images in the same order.
      skipped: files that could not be decoded, each as "name: reason"; they are not among the pixels.
      views: how many views of each image there are (`image_views`), one after the other; N is then views times images.
      mirrored_alike: whether a mirrored image still shows its class, as that of a digit does not.
      cut_short: of texts, which were longer than the encoder takes, shape (N,), bool; None for images.
    """

    pixels: Pixels
    labels: np.ndarray
    classes: tuple[str, ...]
    sha256: str
    skipped: tuple[str, ...] = ()
    views: int = 1
    mirrored_alike: bool = True
    cut_short: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, rows: int, *, start: int = 0) -> Iterator[np.ndarray]:
        """Images in order, uint8 of shape (rows, size, size, 3), the last batch perhaps shorter; read ahead by threads.

        Args:
          rows: images a batch.
          start: the first image to read.
        """
        import grain

        dataset = grain.MapDataset.source(self.pixels).slice(slice(start, None)).batch(rows, drop_remainder=False)
        ahead = grain.ReadOptions(num_threads=READERS, prefetch_buffer_size=READERS)
        yield from dataset.to_iter_dataset(ahead)


class SplitImages(NamedTuple):
    """One data set in two parts; no held-out part for images that come in one."""

    train: ImageSet
    heldout: ImageSet | None


class ArrayPixels:
    """Images that are in memory, uint8 of shape (N, size, size, 3)."""

    def __init__(self, images: np.ndarray):
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._images[index]

    def original(self, index: int) -> AbstractContextManager[np.ndarray]:
        """The image, which is of its size already."""
        return nullcontext(self._images[index])
