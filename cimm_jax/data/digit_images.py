"""Images of digits, flattened and normalised, in two parts."""

from dataclasses import dataclass

import numpy as np

__all__ = ["DigitImages"]


@dataclass(frozen=True)
class DigitImages:
    """A data set of digits.

    Attributes:
      train_x: shape (N, d), float64, normalised.
      train_y: shape (N,), int64, the digit 0..9 of each image.
      heldout_x: shape (M, d), float64, normalised as the training part.
      heldout_y: shape (M,), int64.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    heldout_x: np.ndarray
    heldout_y: np.ndarray
