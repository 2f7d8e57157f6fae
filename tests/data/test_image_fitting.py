"""How images are resized and cropped where a publisher says it; golden folders hold the processors' own pixels."""

import numpy as np
import pytest
from PIL import Image

from cimm_jax.data.image_fitting import INTERPOLATIONS, Fitting
from cimm_jax.data.image_sources import load_images
from cimm_jax.errors import InputError


def test_the_short_side_gets_the_length_and_the_long_one_is_in_proportion(rng):
    pixels = rng.integers(0, 256, (20, 33, 3)).astype(np.uint8)
    fit = Fitting(11)
    wide = np.asarray(Image.fromarray(pixels).resize((18, 11), Image.Resampling.BICUBIC))  # 18.15, rounded down
    np.testing.assert_array_equal(fit(pixels, 8), wide[1:9, 5:13])
    turned = np.ascontiguousarray(pixels.swapaxes(0, 1))
    tall = np.asarray(Image.fromarray(turned).resize((11, 18), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(fit(turned, 8), tall[5:13, 1:9])


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_square_images_lose_their_proportions(interpolation, rng):
    pixels = rng.integers(0, 256, (20, 33, 3)).astype(np.uint8)
    resized = Image.fromarray(pixels).resize((9, 9), getattr(Image.Resampling, interpolation.upper()))
    np.testing.assert_array_equal(Fitting(9, square=True, interpolation=interpolation)(pixels, 9), np.asarray(resized))


def test_images_of_the_size_are_resized_too(rng):
    pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    assert not np.array_equal(Fitting(10)(pixels, 8), pixels)
    np.testing.assert_array_equal(Fitting(8)(pixels, 8), pixels)


def test_a_folder_of_images_is_fitted_as_it_is_said(tmp_path, rng):
    pixels = rng.integers(0, 256, (12, 15, 3)).astype(np.uint8)
    for name in "ab":
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    fit = Fitting(9, square=True, interpolation="nearest")
    np.testing.assert_array_equal(load_images(tmp_path, size=8, fit=fit).train.pixels[1], fit(pixels, 8))
    assert not np.array_equal(load_images(tmp_path, size=8).train.pixels[1], fit(pixels, 8))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="side: needs at least 1, got 0"):
        Fitting(0)
    with pytest.raises(InputError, match="interpolation: 'cubic' is unknown; choose one of nearest, lanczos"):
        Fitting(8, interpolation="cubic")
