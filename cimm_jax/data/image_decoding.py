"""One image file: bytes to pixels of the size that a network takes."""

import io
from pathlib import Path

import numpy as np

from cimm_jax.errors import InputError, one_line

__all__ = ["CROP_SHARE", "SUFFIXES", "UndecodableError", "decode", "fitted", "is_image"]

CROP_SHARE = 0.875
"""Side of the centre crop over the short side of the image it is cut from, as ImageNet networks are evaluated."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""File names that are taken for images; others are passed over."""


class UndecodableError(InputError):
    """A file that is no whole image."""


def decode(image: Path | bytes, name: str = "an image") -> np.ndarray:
    """Pixels as they are, uint8 of shape (height, width, 3); grey, palette and transparent images become RGB.

    Args:
      image: a file or what is in one.
      name: what messages call the latter.

    Raises:
      UndecodableError: if it cannot be read, is damaged or no image.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            return np.asarray(opened.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise whatever the damage makes them
        known, cure = (name, "prepare the data set again") if isinstance(image, bytes) else (image, "remove it")
        raise UndecodableError(
            f"images: {known} cannot be decoded ({one_line(error)}); {cure}, or leave --strict out"
        ) from error


def fitted(pixels: np.ndarray, size: int) -> np.ndarray:
    """The image at the size of a network, uint8 of shape (size, size, 3).

    An image of that size is left as it is. Any other is resized (bicubic) so that its short side is size / 0.875, and the
    centre is cut out.

    Args:
      pixels: uint8 of shape (height, width, 3).
      size: height and width wanted.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = round(size / CROP_SHARE) / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def is_image(path: Path) -> bool:
    """Whether the name is that of an image."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
