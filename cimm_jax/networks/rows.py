"""Rows of somebody's own features as what a network takes, in the place of images."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """What rows go through before a network, in the place of `Preprocess`: nothing.

    Attributes:
      width: features of a row.
    """

    width: int

    inputs: ClassVar[str] = "rows"
    large: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return (self.width,)

    @property
    def described(self) -> str:
        """One kind of input, for messages."""
        return f"rows of {self.width} features"

    def __call__(self, rows: Any) -> jax.Array:
        """The same, on the device.

        Raises:
          InputError: unless they are float32 of shape (N, width).
        """
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self.width:
            raise InputError(f"rows: need float32 of shape (N, {self.width}), got {rows.dtype} of {rows.shape}")
        return jnp.asarray(rows)
