"""Convolutions and their gradients are those of XLA, whatever the form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cimm_jax.networks.convolution import convolved

LAYOUT = ("NHWC", "HWIO", "NHWC")
CASES = [
    ((4, 8, 8, 3), (3, 3, 3, 16), (1, 1), ((1, 1), (1, 1))),
    ((4, 8, 8, 16), (3, 3, 16, 16), (1, 1), ((1, 1), (1, 1))),
    ((4, 7, 7, 16), (3, 3, 16, 16), (1, 1), ((1, 1), (1, 1))),
    ((3, 8, 6, 17), (3, 3, 17, 5), (1, 1), ((1, 1), (1, 1))),
    ((4, 8, 8, 4), (3, 3, 4, 8), (2, 2), ((1, 1), (1, 1))),
    ((4, 9, 9, 4), (3, 3, 4, 8), (2, 2), ((1, 1), (1, 1))),
    ((2, 16, 16, 3), (7, 7, 3, 8), (2, 2), ((3, 3), (3, 3))),
    ((4, 5, 5, 6), (1, 1, 6, 9), (1, 1), ((0, 0), (0, 0))),
    ((4, 8, 8, 6), (1, 1, 6, 9), (2, 2), ((0, 0), (0, 0))),
    ((4, 8, 8, 4), (3, 3, 4, 4), (1, 1), "SAME"),
    ((4, 9, 8, 4), (3, 3, 4, 4), (2, 2), "SAME"),
    ((4, 8, 8, 4), (3, 3, 4, 4), (1, 1), "VALID"),
    ((4, 8, 10, 4), (5, 3, 4, 4), (1, 1), ((0, 3), (2, 1))),
]


def drawn(shape, seed, dtype=jnp.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def plain(x, kernel, strides, padding):
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def ours(x, kernel, strides, padding):
    return convolved(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def with_gradients(convolution, strides, padding):
    def both(x, kernel, g):
        y, back = jax.vjp(lambda x, kernel: convolution(x, kernel, strides, padding), x, kernel)
        return y, back(g)

    return both


@pytest.mark.parametrize(("shape", "kernel", "strides", "padding"), CASES)
def test_values_and_gradients_are_those_of_lax(shape, kernel, strides, padding):
    x, k = drawn(shape, 0), drawn(kernel, 1)
    g = drawn(jax.eval_shape(lambda x, k: plain(x, k, strides, padding), x, k).shape, 2)
    found, expected = (jax.jit(with_gradients(of, strides, padding))(x, k, g) for of in (ours, plain))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_kernels_and_images_can_be_mapped_over():
    shape, kernel, strides, padding = CASES[1]
    x, k = drawn((2, *shape), 0, jnp.float32), drawn((2, *kernel), 1, jnp.float32)
    g = drawn((2, 4, 8, 8, 16), 2, jnp.float32)
    mapped = jax.jit(jax.vmap(with_gradients(ours, strides, padding)))(x, k, g)
    for one in range(2):
        alone = with_gradients(plain, strides, padding)(x[one], k[one], g[one])
        for part, expected in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(part[one], expected, rtol=1e-4, atol=1e-4)


def test_groups_and_dilation_are_left_to_lax():
    x, k = drawn((2, 8, 8, 4), 0), drawn((3, 3, 1, 4), 1)
    grouped = convolved(x, k, (1, 1), "SAME", dimension_numbers=LAYOUT, feature_group_count=4)
    expected = lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=LAYOUT, feature_group_count=4)
    np.testing.assert_array_equal(grouped, expected)
    wide = drawn((3, 3, 4, 2), 2)
    dilated = convolved(x, wide, (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=LAYOUT)
    np.testing.assert_array_equal(
        dilated, lax.conv_general_dilated(x, wide, (1, 1), "SAME", rhs_dilation=(2, 2), dimension_numbers=LAYOUT)
    )


@pytest.mark.parametrize("images", [1, 7, 48])
def test_any_number_of_images_at_once_gives_the_same(images, monkeypatch):
    x, k, g = drawn((images, 6, 6, 4), 0), drawn((3, 3, 4, 4), 1), drawn((images, 6, 6, 4), 2)
    expected = with_gradients(plain, (1, 1), "SAME")(x, k, g)[1]
    monkeypatch.setattr("cimm_jax.networks.convolution.BYTES_AT_ONCE", 40_000)
    found = with_gradients(ours, (1, 1), "SAME")(x, k, g)[1]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
