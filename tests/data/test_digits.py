import numpy as np
import pytest
from sklearn.datasets import load_digits

from cimm_jax.data.class_list import ClassList
from cimm_jax.data.digits import load_digits_8x8, split_digits
from cimm_jax.data.image_sources import load_images
from cimm_jax.errors import InputError


@pytest.fixture(scope="module")
def images():
    return load_digits_8x8()


def test_every_image_is_in_one_part_with_its_label(images):
    pixels, labels = load_digits(return_X_y=True)
    x = np.concatenate([images.train_x, images.heldout_x])
    y = np.concatenate([images.train_y, images.heldout_y])
    # One affine map for all images: an empty pixel is the least value and a full one the greatest.
    restored = 16 * (x - x.min()) / (x.max() - x.min())
    np.testing.assert_allclose(restored, np.rint(restored), atol=1e-12)
    found, known = np.column_stack([np.rint(restored), y]), np.column_stack([pixels, labels])
    assert sorted(found.tolist()) == sorted(known.tolist())


def test_each_digit_is_split_seventy_to_thirty(images):
    train, heldout = np.bincount(images.train_y), np.bincount(images.heldout_y)
    assert len(train) == len(heldout) == 10
    np.testing.assert_allclose(train, 0.7 * (train + heldout), atol=1)
    assert (len(images.train_x), len(images.heldout_x)) == (1257, 540)


def test_training_pixels_are_standardised_by_scalars_and_heldout_ones_by_the_same(images):
    assert abs(images.train_x.mean()) < 1e-12
    assert abs(images.train_x.std() - 1) < 1e-12
    # The corner pixel is always empty: one value everywhere, which a scaling a pixel or a part would not give.
    assert len({*images.train_x[:, 0], *images.heldout_x[:, 0], images.train_x.min(), images.heldout_x.min()}) == 1
    assert abs(images.heldout_x.mean()) > 1e-4


def test_dtypes_and_repeatability(images):
    again = load_digits_8x8()
    for name, dtype in (("train_x", "float64"), ("train_y", "int64"), ("heldout_x", "float64"), ("heldout_y", "int64")):
        assert getattr(images, name).dtype == dtype
        np.testing.assert_array_equal(getattr(images, name), getattr(again, name))


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^--data-dir: digits are embedded"):
        load_digits_8x8(tmp_path)


def test_the_same_images_come_as_pixels_for_networks():
    train, heldout = load_images("digits", size=8)
    assert (len(train), len(heldout)) == (1257, 540)
    pixels = np.stack([train.pixels[i] for i in range(len(train))])
    assert (pixels.shape, pixels.dtype, pixels.min(), pixels.max()) == ((1257, 8, 8, 1), np.uint8, 0, 255)
    (x, y), _ = split_digits()
    np.testing.assert_allclose(pixels.reshape(-1, 64) / 255, x, atol=1 / 255)
    np.testing.assert_array_equal(train.labels, y)
    assert not train.mirrored_alike
    some, _ = load_images("digits", size=8, image_rows=30, only=ClassList(("7", "3"), renumbered=True))
    assert some.classes == ("7", "3")
    assert len(some) == 30


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": 32}, "images: digits has images of 8 pixels, the network takes 32"),
        ({"size": 8, "classes": ["a", "b"]}, "classes: those of digits are known"),
    ],
)
def test_what_does_not_fit_the_digits_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        load_images("digits", **given)
