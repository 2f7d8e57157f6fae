"""A transformer's last normalisation kept, left out, and the hyperplane that it makes; and every way of training, small."""

import jax
import numpy as np
import pytest

from cimm_jax.networks import build, functional
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.tails import tail_features
from cimm_jax.networks.vit import VitConfig
from experiments import transformer_variants
from experiments.last_norms import hyperplane_normal, with_norm_kept, without_norm
from experiments.recurrence_subjects import Opened, trained_parts
from experiments.transformer_variants import VARIANTS, trained_course

GREYS = (0.5, 0.5, 0.5)
SMALL = VitConfig(
    32, 16, width=8, depth=1, heads=2, hidden=8, classes=3, preprocess=Preprocess.of_unit_pixels(32, GREYS, GREYS)
)
CUT, ROWS = "block0", 40


@pytest.fixture(autouse=True)
def standard_promotion(standard_promotion_everywhere):
    return standard_promotion_everywhere


@pytest.fixture
def opened(rng):
    """Random tokens of both tasks, and a network whose normalisation scales and shifts."""
    network = build(SMALL, jax.random.key(0))
    norm = network.parts["norm"].norm  # pyright: ignore
    norm.scale[...] = norm.scale[...] * np.geomspace(0.5, 2, SMALL.width, dtype=np.float32)
    norm.bias[...] = norm.bias[...] + np.float32(0.1)
    sets = [
        Labelled(rng.standard_normal((ROWS, 5, SMALL.width)).astype(np.float32), np.arange(ROWS) % 3) for _ in range(2)
    ]
    return Opened(network, CUT, *sets)


def features(network, x):
    return tail_features(functional.split(network, CUT), x, CUT)


def test_features_do_not_vary_along_the_normal(opened):
    along = features(opened.network, opened.primary.x) @ hyperplane_normal(opened.network)
    assert along.std() < 1e-5
    assert features(opened.network, opened.primary.x).std(0).min() > 0.1


def test_a_kept_normalisation_gives_the_same_and_does_not_learn(opened):
    kept = opened._replace(network=with_norm_kept(opened.network))
    x = opened.primary.x
    np.testing.assert_allclose(features(kept.network, x), features(opened.network, x), rtol=1e-4, atol=1e-5)
    after = trained_parts(kept, (), seed=0, epochs=1, batch_rows=20)[0][-1]
    network = functional.merge(after)
    scales = network.parts["norm"].scale, opened.network.parts["norm"].norm.scale  # pyright: ignore
    np.testing.assert_array_equal(scales[0][...], scales[1][...])
    assert (tail_features(after, x, CUT) @ hyperplane_normal(opened.network)).std() < 1e-5
    assert np.abs(tail_features(after, x, CUT) - features(opened.network, x)).max() > 1e-4, "the block did"


def test_without_a_normalisation_features_are_tokens_and_the_head_fits_them(opened):
    bare = without_norm(opened.network, CUT, opened.primary)
    tokens = features(bare, opened.primary.x)
    normal = (tokens - tokens.mean(1, keepdims=True)) / tokens.std(1, keepdims=True)
    norm = opened.network.parts["norm"].norm
    np.testing.assert_allclose(
        normal * norm.scale[...] + norm.bias[...], features(opened.network, opened.primary.x), rtol=1e-3, atol=1e-4
    )
    logits = tokens @ np.asarray(bare.head.kernel[...]) + np.asarray(bare.head.bias[...])  # pyright: ignore
    assert np.mean(logits.argmax(1) == opened.primary.labels) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_way_of_training_has_a_course(opened, name, monkeypatch):
    monkeypatch.setattr(transformer_variants, "FIXED_ROWS", 30)
    course = trained_course(opened, VARIANTS[name]._replace(batch_rows=20), seed=0, epochs=2)
    assert len(course) == 3
    assert all(np.isfinite(list(moment.values())).all() for moment in course)
    assert course[0]["harmful"] != course[-1]["harmful"]
