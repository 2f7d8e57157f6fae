"""How an image is brought to the size of a network, where its publisher says it: resized, then cut at the centre."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cimm_jax.errors import InputError

__all__ = ["INTERPOLATIONS", "Fit", "Fitting"]

Fit = Callable[[np.ndarray, int], np.ndarray]
"""(pixels, size) -> uint8 of shape (size, size, 3)."""

INTERPOLATIONS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's, in the order of its numbers, which files of settings write."""


@dataclass(frozen=True)
class Fitting:
    """Resizes every image, also one that has the size already, and cuts out the centre.

    Attributes:
      side: length that the short side gets, or both.
      square: whether both get it, whatever the proportions were; if not, the long side is in proportion, rounded down.
      interpolation: one of `INTERPOLATIONS`.

    Raises:
      InputError: if the side is below 1, or the interpolation unknown.
    """

    side: int
    square: bool = False
    interpolation: str = "bicubic"

    def __post_init__(self):
        if self.side < 1:
            raise InputError(f"side: needs at least 1, got {self.side}")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise InputError(f"interpolation: {self.interpolation!r} is unknown; choose one of {known}")

    def __call__(self, pixels: np.ndarray, size: int) -> np.ndarray:
        """The image at the size of a network, uint8 of shape (size, size, 3).

        Args:
          pixels: uint8 of shape (height, width, 3).
          size: height and width wanted, at most `side`.
        """
        from PIL import Image

        image = Image.fromarray(pixels)
        short = min(image.size)
        width, height = (
            self.side if self.square or side == short else int(self.side * side / short) for side in image.size
        )
        resized = image.resize((width, height), Image.Resampling[self.interpolation.upper()])
        left, top = (width - size) // 2, (height - size) // 2
        return np.asarray(resized.crop((left, top, left + size, top + size)))
