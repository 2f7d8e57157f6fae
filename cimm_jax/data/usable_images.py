"""Which images of a data set can be decoded: each is decoded once before anything is computed from them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from cimm_jax.data.class_list import Chosen
from cimm_jax.data.image_decoding import Decoded, UndecodableError
from cimm_jax.data.image_set import READERS
from cimm_jax.errors import InputError, few, printable

__all__ = ["Usable", "usable"]


class Usable(NamedTuple):
    """What is left of chosen images.

    Attributes:
      chosen: those that can be decoded.
      turned: which of them are stored in another orientation than they are looked at, shape (N,).
      skipped: the others, each as "name: reason".
    """

    chosen: Chosen
    turned: np.ndarray
    skipped: tuple[str, ...]


def usable(
    decode: Callable[[int], AbstractContextManager[Decoded]],
    chosen: Chosen,
    *,
    name_of: Callable[[int], str],
    where: object,
    strict: bool,
) -> Usable:
    """The chosen images without those that cannot be decoded.

    Args:
      decode: reads the image at an index of the data set.
      chosen: the images to look at.
      name_of: what people call the image at an index, within the data set.
      where: what messages call the data set.
      strict: refuse images that cannot be decoded, which are skipped otherwise.

    Raises:
      InputError: if a class has no image left or, if strict, an image cannot be decoded.
    """

    def look(index: int) -> bool | UndecodableError:
        try:
            with decode(index) as image:
                return image.turned
        except UndecodableError as found:
            return found

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(look, chosen.indices.tolist()))
    problems = {index: of for index, of in zip(chosen.indices.tolist(), found, strict=True) if not isinstance(of, bool)}
    if strict and problems:
        raise next(iter(problems.values()))
    kept = np.asarray([isinstance(of, bool) for of in found], bool)
    left = chosen._replace(indices=chosen.indices[kept], labels=chosen.labels[kept])
    empty = chosen.wanted - set(left.labels.tolist())
    if empty:
        raise InputError(
            f"images: {where} has no usable image of {few([chosen.classes[label] for label in sorted(empty)])}; add one, or "
            "remove the class"
        )
    skipped = tuple(printable(f"{name_of(index)}: {problem.reason}") for index, problem in problems.items())
    return Usable(left, np.asarray(found, object)[kept].astype(bool), skipped)
