"""scikit-learn's 8x8 digits: embedded in the library, so it works without network or files."""

import numpy as np

from cimm_jax.data.digit_images import DigitImages

TRAIN_SHARE = 0.7


def load_digits_8x8() -> DigitImages:
    """1,797 images of 64 pixels; of each digit 70 % are for training, chosen by a fixed seed.

    Pixels are shifted and scaled by the mean and standard deviation of all training pixels, as the paper does for MNIST.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    train_x, heldout_x, train_y, heldout_y = train_test_split(x, y, train_size=TRAIN_SHARE, stratify=y, random_state=0)
    mean, deviation = train_x.mean(), train_x.std()
    return DigitImages(
        (train_x - mean) / deviation, train_y.astype(np.int64), (heldout_x - mean) / deviation, heldout_y.astype(np.int64)
    )
