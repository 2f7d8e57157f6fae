import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.errors import InputError
from cimm_jax.networks import by_name
from cimm_jax.networks.preprocess import Preprocess

TWO = Preprocess(2, (127.0, 10.0, 0.0), (128.0, 2.0, 1.0))


def test_pixels_are_normalised_channel_by_channel():
    images = np.broadcast_to(np.array([255, 20, 7], np.uint8), (1, 2, 2, 3))
    got = TWO(images)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, np.broadcast_to([1.0, 5.0, 7.0], (1, 2, 2, 3)))
    np.testing.assert_array_equal(jax.jit(TWO)(images), got)


def test_published_means_are_of_pixels_in_zero_to_one():
    got = Preprocess.of_unit_pixels(1, (0.5,), (0.25,))(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    np.testing.assert_allclose(got.ravel(), [-2, 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "white"),
    [
        ("resnet18", 224, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("resnet20_cifar10", 32, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]),
        ("vit_b16", 224, [1, 1, 1]),
        ("vit_tiny", 32, [1, 1, 1]),
        ("efficientnet_lite0", 224, [1, 1, 1]),
        ("linear", 28, [(1 - 0.1307) / 0.3081]),
    ],
)
def test_every_network_gets_what_it_was_trained_on(name, size, white):
    got = by_name(name).preprocess(np.full((1, size, size, len(white)), 255, np.uint8))
    np.testing.assert_allclose(got[0, 0, 0], white, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((1, 2, 2, 3), np.float32), "need uint8 pixels 0..255, got float32"),
        (np.zeros((2, 2, 3), np.uint8), r"need shape \(N, 2, 2, 3\), got \(2, 2, 3\)"),
        (np.zeros((1, 3, 2, 2), np.uint8), r"need shape \(N, 2, 2, 3\), got \(1, 3, 2, 2\)"),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        TWO(images)
