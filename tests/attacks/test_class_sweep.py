"""Attackers of a network's features behind a map: what counts as a feature there."""

import jax
import numpy as np

from cimm_jax.attacks import standard_operators
from cimm_jax.attacks.class_sweep import attack_features
from cimm_jax.networks.features import FeatureSet, Labelled


def test_rounding_errors_that_a_map_blows_up_are_nothing_to_fit(rng):
    """The features lack a direction, and the map makes it a million times as prominent as the others."""
    x = rng.integers(-8, 9, (2, 30, 5)).astype(np.float32)
    x[..., 4] = x[..., 0] + x[..., 1]
    labels = rng.integers(0, 3, (2, 30))
    features = FeatureSet(*(Labelled(*part) for part in zip(x, labels, strict=True)), classes=3)
    lacking = np.array([1.0, 1.0, 0.0, 0.0, -1.0])
    basis = np.linalg.qr(np.c_[lacking, rng.standard_normal((5, 4))])[0]
    thetas = {"undefended": np.eye(5), "mapped": basis * np.r_[1e6, 1, 1, 1, 1]}
    noise = x[0].astype(np.float64) @ thetas["mapped"]
    assert np.linalg.matrix_rank(noise, tol=1e-13 * np.linalg.norm(noise, 2)) == 5, "else there is nothing to be seen"
    operators = standard_operators(("whiten + line_search", "standardise + adam"), steps=20, rates=2)
    swept = attack_features(features, thetas, operators, keys=jax.random.split(jax.random.key(0), 1))
    np.testing.assert_allclose(swept["whiten + line_search"].left[..., -1], 0, atol=1e-9)
    for found in swept.values():
        assert found.left.min() > -1e-5, f"{found.operator.name} fits better than any probe of the features can"
