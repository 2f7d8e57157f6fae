"""From bytes of pixels to what a network was trained on."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.data.image_decoding import fitted
from cimm_jax.data.image_fitting import Fit, Fitting
from cimm_jax.errors import InputError

__all__ = ["LARGE", "Preprocess"]

LARGE = 64
"""Pixels: those who fine-tune put larger images through the last blocks only, whose activations are kept."""


@dataclass(frozen=True)
class Preprocess:
    """(pixel - mean) / deviation, channel by channel, on the scale 0..255.

    Attributes:
      size: height and width of an image.
      mean: of each channel; their number is the number of channels.
      deviation: of each channel.
      fitting: how images are brought to the size; None is the usual way (`image_decoding.fitted`).
    """

    size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    fitting: Fitting | None = None

    inputs: ClassVar[str] = "images"
    """What they are, for messages."""

    @classmethod
    def of_unit_pixels(cls, size: int, mean: tuple[float, ...], deviation: tuple[float, ...]) -> "Preprocess":
        """The same with mean and deviation given, as most are published, for pixels in [0, 1]."""
        return cls(size, tuple(255 * value for value in mean), tuple(255 * value for value in deviation))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return (self.size, self.size, len(self.mean))

    @property
    def large(self) -> bool:
        """Whether images are `LARGE`."""
        return self.size > LARGE

    @property
    def described(self) -> str:
        """One kind of input, for messages."""
        return f"images of {self.size} pixels"

    @property
    def fit(self) -> Fit:
        """Brings an image of any size to this one."""
        return fitted if self.fitting is None else self.fitting

    def __call__(self, images: Any) -> jax.Array:
        """float32 of the shape of `images`, uint8 of shape (N, size, size, channels).

        Raises:
          InputError: if the images have another dtype or shape.
        """
        expected = self.shape
        if images.dtype != np.uint8:
            raise InputError(f"images: need uint8 pixels 0..255, got {images.dtype}; give them as they were decoded")
        if images.ndim != 4 or images.shape[1:] != expected:
            raise InputError(
                f"images: need shape (N, {', '.join(map(str, expected))}), got {images.shape}; resize and crop them first"
            )
        mean, deviation = (jnp.asarray(value, jnp.float32)[None, None, None] for value in (self.mean, self.deviation))
        return (jnp.asarray(images).astype(jnp.float32) - mean) / deviation
