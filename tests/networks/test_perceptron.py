"""The perceptron: what it computes, where it can be cut, and what is in its file."""

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from cimm_jax.networks import build, by_name, functional
from cimm_jax.networks.weights import export_weights, load_weights

pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_it_is_rectified_layers_on_flattened_pixels(rng):
    network = build("mlp_digits", jax.random.key(0))
    pixels = rng.integers(0, 256, size=(5, 8, 8, 1)).astype(np.uint8)
    x = np.asarray(network.config.preprocess(pixels), np.float32)
    expected = x.reshape(5, 64)
    for name in network.cuts[:-1]:
        layer = network.parts[name].linear
        expected = np.maximum(expected @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...]), 0)
    np.testing.assert_allclose(network.features(x), expected, rtol=2e-5, atol=1e-5)
    assert network.cuts == ("layer0", "layer1", "layer2", "features")
    assert {name: rows.shape for name, rows in network.pooled(x).items()} == {
        "layer0": (5, 128),
        "layer1": (5, 64),
        "layer2": (5, 32),
    }


def test_its_file_has_pytorch_s_layout_and_comes_back(tmp_path):
    network = build("mlp_digits", jax.random.key(1))
    path = export_weights(network, tmp_path / "mlp.safetensors")
    tensors = load_file(path)
    assert tensors["layers.0.weight"].shape == (128, 64)
    assert sorted(tensors) == sorted(
        [f"layers.{i}.{kind}" for i in range(3) for kind in ("weight", "bias")] + ["head.weight", "head.bias"]
    )
    back = load_weights(by_name("mlp_digits"), path)
    for a, b in zip(jax.tree.leaves(functional.split(network)), jax.tree.leaves(functional.split(back)), strict=True):
        np.testing.assert_array_equal(a, b)
