"""Which images of a data set can be decoded: each is decoded once before anything is computed from them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cimm_jax.data.class_list import Chosen
from cimm_jax.data.image_decoding import UndecodableError
from cimm_jax.data.image_set import READERS
from cimm_jax.errors import InputError, few

__all__ = ["usable"]


def usable(
    decoded: Callable[[int], np.ndarray], chosen: Chosen, *, where: object, strict: bool
) -> tuple[Chosen, tuple[str, ...]]:
    """The chosen images without those that cannot be decoded, and what is wrong with the latter.

    Args:
      decoded: the pixels of the image at an index of `chosen`.
      chosen: the images to look at.
      where: what messages call the data set.
      strict: refuse images that cannot be decoded, which are skipped otherwise.

    Raises:
      InputError: if a class has no image left or, if strict, an image cannot be decoded.
    """

    def problem(index: int) -> UndecodableError | None:
        try:
            decoded(index)
        except UndecodableError as found:
            return found
        return None

    with ThreadPoolExecutor(READERS) as pool:
        problems = list(pool.map(problem, chosen.indices.tolist()))
    skipped = tuple(str(found) for found in problems if found is not None)
    if strict and skipped:
        raise InputError(skipped[0])
    kept = np.asarray([found is None for found in problems], bool)
    left = chosen._replace(indices=chosen.indices[kept], labels=chosen.labels[kept])
    empty = chosen.wanted - set(left.labels.tolist())
    if empty:
        raise InputError(
            f"images: {where} has no usable image of {few([chosen.classes[label] for label in sorted(empty)])}; add one, or "
            "remove the class"
        )
    return left, skipped
