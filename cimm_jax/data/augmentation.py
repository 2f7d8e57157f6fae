"""Random crops and flips of training images, as networks of each size are usually trained with; colours stay as they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cimm_jax.data.image_set import Pixels

__all__ = ["PADDED_UP_TO", "PaddedCrop", "ResizedCrop", "augmentation_for"]

PADDED_UP_TO = 64
"""Largest images that are padded and cropped; of larger ones a part is resized."""


@dataclass(frozen=True)
class PaddedCrop:
    """The image in a border of an eighth of its size, cut out at a random place, and mirrored every other time.

    Attributes:
      size: height and width.
      border: colour of the border; the mean colour, which is zero for the network.
      mirror: whether to mirror.
    """

    size: int
    border: tuple[int, ...]
    mirror: bool = True

    def __call__(self, pixels: Pixels, index: int, rng: np.random.Generator) -> np.ndarray:
        """A view of one of the images, uint8 of shape (size, size, 3)."""
        width = self.size // 8
        padded = np.tile(np.asarray(self.border, np.uint8), (self.size + 2 * width, self.size + 2 * width, 1))
        padded[width : width + self.size, width : width + self.size] = pixels[index]
        top, left = rng.integers(0, 2 * width + 1, 2)
        return _perhaps_mirrored(padded[top : top + self.size, left : left + self.size], self.mirror, rng)


@dataclass(frozen=True)
class ResizedCrop:
    """A random part of the image before it was brought to the size, resized (bilinear), and mirrored every other time.

    A part that is longer than the image is cut at its edge, where others draw again.

    Attributes:
      size: height and width.
      area: least and largest share of the image.
      ratio: least and largest width over height.
      mirror: whether to mirror.
    """

    size: int
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    mirror: bool = True

    def __call__(self, pixels: Pixels, index: int, rng: np.random.Generator) -> np.ndarray:
        """A view of one of the images, uint8 of shape (size, size, 3)."""
        from PIL import Image

        with pixels.original(index) as original:
            image = Image.fromarray(original)
            area, ratio = rng.uniform(*self.area) * image.width * image.height, np.exp(rng.uniform(*np.log(self.ratio)))
            width, height = min(image.width, np.sqrt(area * ratio)), min(image.height, np.sqrt(area / ratio))
            left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
            part = (left, top, left + width, top + height)
            resized = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=part)
        return _perhaps_mirrored(np.asarray(resized), self.mirror, rng)


def augmentation_for(size: int, mean: Sequence[float], *, mirror: bool = True) -> PaddedCrop | ResizedCrop:
    """The usual augmentation for images of a size.

    Args:
      size: height and width that the network takes.
      mean: mean colour of its images, three numbers 0..255.
      mirror: whether to mirror; digits are others in the mirror.
    """
    if size > PADDED_UP_TO:
        return ResizedCrop(size, mirror=mirror)
    return PaddedCrop(size, tuple(round(value) for value in mean), mirror)


def _perhaps_mirrored(image: np.ndarray, mirror: bool, rng: np.random.Generator) -> np.ndarray:
    return image[:, ::-1] if mirror and rng.random() < 0.5 else image
