"""The extractor behind features: it begins as the identity on standardised ones, and what is in its file."""

import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from cimm_jax.errors import InputError
from cimm_jax.networks import functional
from cimm_jax.networks.residual import MOST_HIDDEN, residual_extractor
from cimm_jax.networks.weights import export_weights, load_weights

pytestmark = pytest.mark.usefixtures("standard_promotion")

MEAN, DEVIATION = np.asarray([1.0, -2.0, 0.5]), np.asarray([2.0, 0.5, 1.0])


def test_it_begins_as_the_identity_on_standardised_features(rng):
    network = residual_extractor(MEAN, DEVIATION, 4)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(network.features(x), (x - MEAN) / DEVIATION, rtol=1e-5, atol=1e-6)
    assert network.cuts == ("before the extractor", "block0", "block1", "features")
    assert network.config.hidden == 12
    assert residual_extractor(np.zeros(300), np.ones(300), 2).config.hidden == MOST_HIDDEN
    moments = functional.split(network).batch_stats
    assert len(jax.tree.leaves(moments)) == 2, "no training moves mean and deviation"


def test_other_weights_do_something_and_come_back_from_the_file(rng, tmp_path):
    network = residual_extractor(MEAN, DEVIATION, 4)
    state = nnx.state(network, nnx.Param)
    nnx.update(network, jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape).astype(np.float32), state))
    path = export_weights(network, tmp_path / "extractor.safetensors")
    tensors = load_file(path)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    expected = (x - tensors["input.mean"]) / tensors["input.deviation"]
    for block in ("blocks.0", "blocks.1"):
        first, second = (
            lambda rows, layer=f"{block}.{name}": rows @ tensors[f"{layer}.weight"].T + tensors[f"{layer}.bias"]
            for name in ("first", "second")
        )
        expected = expected + second(np.maximum(first(expected), 0))
    np.testing.assert_allclose(network.features(x), expected, rtol=1e-4, atol=1e-4)
    back = load_weights(network.config, path)
    for a, b in zip(jax.tree.leaves(functional.split(network)), jax.tree.leaves(functional.split(back)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [np.zeros((2, 4), np.float32), np.zeros((2, 3)), np.zeros(3, np.float32)])
def test_other_rows_are_refused(rows):
    with pytest.raises(InputError, match=r"rows: need float32 of shape \(N, 3\)"):
        residual_extractor(MEAN, DEVIATION, 4).config.preprocess(rows)
