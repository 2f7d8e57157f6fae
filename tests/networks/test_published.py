"""Published weights on the pictures they are published for; skipped where the project's data is not at hand."""

from pathlib import Path

import jax
import numpy as np
import pytest

from cimm_jax.networks import by_name, functional
from cimm_jax.networks.weights import load_weights

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")


def accuracy(model, images, labels, rows):
    parts, logits = functional.split(model), jax.jit(functional.logits)
    batches = [model.config.preprocess(images[start : start + rows]) for start in range(0, len(images), rows)]
    answers = np.concatenate([np.argmax(logits(parts, batch), axis=1) for batch in batches])
    return np.mean(answers == labels)


@needs_data
@pytest.mark.parametrize(
    ("name", "published", "images"),
    # Fewer for ResNet56, which takes three times as long.
    [("resnet20_cifar10", 0.9178, 1000), ("resnet56_cifar10", 0.9362, 500)],
)
def test_cifar_resnets_have_the_published_accuracy(name, published, images):
    model = load_weights(by_name(name), DATA / "weights" / f"{name}.safetensors")
    with np.load(DATA / "cifar10" / "cifar10_subset.npz") as data:
        x, y = data["x_test"][:images], data["y_test"][:images]
    assert accuracy(model, x, y, rows=250) == pytest.approx(published, abs=0.015)


@needs_data
@pytest.mark.slow
def test_efficientnet_lite0_has_the_accuracy_of_the_original():
    from matplotlib.image import imread

    model = load_weights(by_name("efficientnet_lite0"), DATA / "weights" / "efficientnet_lite0_imagenet.safetensors")
    files = sorted((DATA / "imagenet1k_sample").glob("*.JPEG"))
    pictures = [imread(file) for file in files]
    x = np.stack([np.stack([picture] * 3, axis=2) if picture.ndim == 2 else picture for picture in pictures])
    assert len(x) == 1000
    assert accuracy(model, x, np.arange(1000), rows=50) == pytest.approx(0.867, abs=0.003)
