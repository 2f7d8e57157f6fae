"""scikit-learn's 8x8 digits: embedded in the library, so it works without network or files."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from cimm_jax.data.digit_images import DigitImages
from cimm_jax.errors import InputError

__all__ = ["TRAIN_SHARE", "load_digits_8x8", "split_digits"]

TRAIN_SHARE = 0.7


def load_digits_8x8(data_dir: Path | None = None) -> DigitImages:
    """1,797 images of 64 pixels; of each digit 70 % are for training, chosen by a fixed seed.

    Pixels in [0, 1] are shifted and scaled by the mean and the standard deviation of all training pixels, as the paper
    does for MNIST.

    Args:
      data_dir: must be None, since nothing is read from files.

    Raises:
      InputError: if `data_dir` is given; the caller meant another data set.
    """
    if data_dir is not None:
        raise InputError(
            f"--data-dir: digits are embedded and read no files, got {data_dir}; leave it out or ask for mnist"
        )
    (train, train_y), (heldout, heldout_y) = split_digits()
    mean, deviation = train.mean(), train.std()
    return DigitImages((train - mean) / deviation, train_y, (heldout - mean) / deviation, heldout_y)


def split_digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Pixels in [0, 1], shape (N, 64), and digits, of the training part and of the held-out one."""
    from sklearn.model_selection import StratifiedShuffleSplit

    x, y = _all_digits()
    train, heldout = next(StratifiedShuffleSplit(1, train_size=TRAIN_SHARE, random_state=0).split(x, y))
    return (x[train], y[train]), (x[heldout], y[heldout])


@cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    """Read once, from compressed text. No array of these may be handed out, for its owner may write into it."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return bunch.data / 16, bunch.target.astype(np.int64)
