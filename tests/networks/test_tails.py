"""Features of the activations at a cut."""

import numpy as np
import pytest
from networks.small_networks import NETWORK, filled

from cimm_jax.networks import functional, tails
from cimm_jax.networks.features import FeatureSet, Labelled

CUT = "layer3.0"


@pytest.fixture
def parts():
    return functional.split(filled(NETWORK), CUT)


@pytest.mark.parametrize("batch_rows", [256, 7, 3])
def test_they_are_the_tails_whatever_the_batch(rng, parts, monkeypatch, batch_rows):
    monkeypatch.setattr(tails, "BATCH_ROWS", batch_rows)
    activations = rng.standard_normal((7, 8, 8, 8)).astype(np.float32)
    found = tails.tail_features(parts, activations, CUT)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, functional.tail(parts, activations, CUT), rtol=1e-4, atol=1e-5)


def test_of_every_task_and_both_parts(rng, parts):
    def labelled(rows):
        return Labelled(rng.standard_normal((rows, 8, 8, 8)).astype(np.float32), np.arange(rows) % 3)

    sets = {"primary": FeatureSet(labelled(5), None, 3), "harmful": FeatureSet(labelled(4), labelled(3), 3)}
    found = tails.features_behind(parts, sets, CUT)
    assert found["primary"].heldout is None
    for images, part in ((sets["harmful"], "train"), (sets["harmful"], "heldout")):
        expected = tails.tail_features(parts, getattr(images, part).x, CUT)
        np.testing.assert_array_equal(getattr(found["harmful"], part).x, expected)
        np.testing.assert_array_equal(getattr(found["harmful"], part).labels, getattr(images, part).labels)
