"""One image file: bytes to pixels of the size that a network takes."""

from pathlib import Path

import numpy as np

from cimm_jax.data.reasons import one_line
from cimm_jax.errors import InputError

CROP_SHARE = 0.875
"""Side of the centre crop over the short side of the image it is cut from, as ImageNet networks are evaluated."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""File names that are taken for images; others are passed over."""


class UndecodableError(InputError):
    """A file that is no whole image."""


def decode(path: Path, size: int) -> np.ndarray:
    """Pixels, uint8 of shape (size, size, 3); grey, palette and transparent images become RGB.

    An image of that size is left as it is. Any other is resized (bicubic) so that its short side is size / 0.875, and the
    centre is cut out.

    Raises:
      UndecodableError: if the file cannot be read, is damaged or no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
            if rgb.size != (size, size):
                rgb = _fitted(rgb, size)
            return np.asarray(rgb)
    except Exception as error:  # Pillow's decoders raise whatever the damage makes them
        raise UndecodableError(
            f"images: {path} cannot be decoded ({one_line(error)}); remove it, or leave --strict out"
        ) from error


def is_image(path: Path) -> bool:
    """Whether the name is that of an image."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _fitted(image, size: int):
    from PIL import Image

    scale = round(size / CROP_SHARE) / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return resized.crop((left, top, left + size, top + size))
