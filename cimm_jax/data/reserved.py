"""Rows that are kept from the defence, so that attackers and judges have their own: a share, drawn once and for all."""

import dataclasses
import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np

from cimm_jax.data.image_set import ImageSet, Pixels
from cimm_jax.errors import InputError

__all__ = ["check_share", "chosen_images", "heldout_rows", "reserved_rows", "rows_in_rounds", "rows_of_each_class"]

_SEED = 0


def check_share(share: float, argument: str = "reserve") -> None:
    """Raises `InputError` unless the share is from 0 to below 1."""
    if not 0 <= share < 1:
        raise InputError(f"{argument}: needs a share from 0 to below 1, got {share}")


def reserved_rows(
    labels: np.ndarray,
    share: float,
    name: str,
    *,
    argument: str = "reserve",
    seed: int = _SEED,
    classes: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are left and rows that are reserved, both ascending: of each class, `share` of its rows, at least one.

    Args:
      labels: class of each row, shape (N,), integers.
      share: from 0, which reserves nothing, to below 1.
      name: what the rows are of, for the message.
      argument: what the message calls the share.
      seed: draws the rows.
      classes: names of the classes by number, for the message; None is the numbers.

    Raises:
      InputError: for another share, or if a class has a single row.
    """
    check_share(share, argument)
    if not share:
        return np.arange(len(labels)), np.arange(0)
    reserved = []
    for label, rows in rows_of_each_class(labels, np.random.default_rng(seed)).items():
        if len(rows) < 2:
            called = label if classes is None else classes[label]
            raise InputError(f"{argument}: class {called} of the {name} has one training row, which cannot be shared")
        reserved.append(rows[: min(max(1, round(share * len(rows))), len(rows) - 1)])
    taken = np.sort(np.concatenate(reserved))
    return np.setdiff1d(np.arange(len(labels)), taken), taken


def heldout_rows(count: int, share: float, *, seed: int = _SEED) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are left and rows that are held out, both ascending and at least one, whatever their class.

    Of one image a class, nobody could take a share.

    Args:
      count: how many there are.
      share: of those held out, above 0 and below 1.
      seed: draws them.
    """
    held = min(max(1, round(share * count)), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def rows_of_each_class(labels: np.ndarray, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """By class, its rows in an order of their own."""
    return {int(label): rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)}


def rows_in_rounds(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """All rows, class by class in an order of their own, and the place of each in its class: the round that takes it."""
    by_class = rows_of_each_class(labels, rng).values()
    return np.concatenate(list(by_class)), np.concatenate([np.arange(len(rows)) for rows in by_class])


def chosen_images(images: ImageSet, rows: np.ndarray) -> ImageSet:
    """The images at these places, in this order; their checksum is of both."""
    if np.array_equal(rows, np.arange(len(images))):
        return images
    digest = hashlib.sha256(f"{images.sha256} ".encode())
    digest.update(np.asarray(rows, np.int64).tobytes())
    return dataclasses.replace(
        images,
        pixels=_Chosen(images.pixels, rows),
        labels=images.labels[rows],
        sha256=digest.hexdigest(),
        cut_short=None if images.cut_short is None else images.cut_short[rows],
    )


class _Chosen:
    """Some of other pixels."""

    def __init__(self, pixels: Pixels, rows: Sequence[int] | np.ndarray):
        self._pixels, self._rows = pixels, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._pixels[int(self._rows[index])]

    def original(self, index: int) -> AbstractContextManager[np.ndarray]:
        """As the pixels have it."""
        return self._pixels.original(int(self._rows[index]))
