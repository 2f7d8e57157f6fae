"""Features of two data sets as a pair of tasks."""

import numpy as np
import pytest
from networks.small_networks import NETWORK, filled

from cimm_jax import InputError, SplitPair
from cimm_jax.class_targets import one_hot
from cimm_jax.data.image_set import ArrayPixels, ImageSet, SplitImages
from cimm_jax.networks.features import DeepFeatures, FeatureSet, Labelled, feature_set
from cimm_jax.networks.head import head_of


def labelled(rng, rows, classes, d=4):
    return Labelled(rng.standard_normal((rows, d)).astype(np.float32), np.arange(rows) % classes)


@pytest.fixture
def sets(rng):
    return DeepFeatures(
        FeatureSet(labelled(rng, 10, 3), labelled(rng, 5, 3), 3),
        FeatureSet(labelled(rng, 9, 2), labelled(rng, 4, 2), 2),
    )


def test_tasks_are_float64_with_targets_minus_the_training_rows_means(sets):
    split = sets.split()
    assert isinstance(split, SplitPair)
    for name, features in sets._asdict().items():
        means = one_hot(features.train.labels, features.classes).mean(0)
        for part in ("train", "heldout"):
            task, source = getattr(getattr(split, part), name), getattr(features, part)
            assert task.x.dtype == task.y.dtype == np.float64
            np.testing.assert_array_equal(task.x, source.x)
            np.testing.assert_allclose(task.y, one_hot(source.labels, features.classes) - means, atol=1e-12)
    assert split.train.primary.y.shape == (10, 3)
    assert split.train.harmful.y.shape == (9, 1), "two classes are one column"


@pytest.mark.parametrize("side", ["primary", "harmful"])
def test_without_held_out_images_there_is_no_held_out_pair(sets, side):
    bare = sets._replace(**{side: getattr(sets, side)._replace(heldout=None)})
    assert bare.pair("heldout") is None
    assert bare.pair() is not None
    with pytest.raises(InputError, match="need held-out images"):
        bare.split()


def test_both_parts_are_changed_alike(sets):
    changed = sets.primary.changed(lambda x: 2 * x)
    for part in ("train", "heldout"):
        np.testing.assert_array_equal(getattr(changed, part).x, 2 * getattr(sets.primary, part).x)
        np.testing.assert_array_equal(getattr(changed, part).labels, getattr(sets.primary, part).labels)
    assert sets.primary._replace(heldout=None).changed(lambda x: x).heldout is None


def test_features_of_a_data_set_are_the_networks_and_its_head_gives_the_logits(rng, tmp_path):
    model = filled(NETWORK)

    def images(rows):
        pixels = rng.integers(0, 256, (rows, 16, 16, 3)).astype(np.uint8)
        return ImageSet(ArrayPixels(pixels), np.arange(rows) % 3, ("a", "b", "c"), f"{rows}")

    told = []

    def progress(part, count):
        return lambda done: told.append((part, count, done))

    data = SplitImages(images(6), images(5))
    found = feature_set(model, data, weights_sha256="w", cache=tmp_path, progress=progress)
    assert found.classes == 3
    for part, images_of in (("train", data.train), ("heldout", data.heldout)):
        pixels = np.stack([images_of.pixels[i] for i in range(len(images_of))])
        logits = model(model.config.preprocess(pixels))
        np.testing.assert_allclose(head_of(model).logits(getattr(found, part).x), logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(getattr(found, part).labels, images_of.labels)
    assert {(part, count) for part, count, _ in told} == {("train", 6), ("heldout", 5)}
    at_cut = feature_set(model, data._replace(heldout=None), weights_sha256="w", cache=tmp_path, cut="layer3.0")
    assert at_cut.train.x.shape == (6, 8, 8, 8)
    assert at_cut.heldout is None
