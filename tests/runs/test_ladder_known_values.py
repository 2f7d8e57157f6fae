"""Known values of probes on real networks come out; they need the data, and minutes."""

import os
from pathlib import Path

import jax
import pytest

from cimm_jax.attacks.ladder.climb import summarised, try_features
from cimm_jax.attacks.ladder.draws import draw_rows, image_budgets
from cimm_jax.attacks.ladder.operators import dtype_of, operators_of
from cimm_jax.attacks.ladder.rungs import LAYERS
from cimm_jax.runs.ladder import output_floor
from cimm_jax.runs.ladder_scene import open_scene
from cimm_jax.runs.network_subject import NetworkSubject
from cimm_jax.runs.source import NetworkSource

DATA = Path(os.environ.get("CIMM_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.exists(), reason="needs the data of the experiments"),
    pytest.mark.usefixtures("standard_promotion"),
]

PROBES = {"layer2.1": (0.74, 0.83), "layer3.0": (0.87, 0.91), "layer3.2": (0.81, 0.86)}
"""ResNet20, MNIST, 2,000 images to fit and 2,000 to judge: least squares and a perceptron behind each block."""

OUTPUTS = {"features": 0.486, "logits": 0.460, "softmax": 0.307, "classes": 0.036}
"""EfficientNet-Lite0, Cars: the best ridge probe."""


def source(model, weights, primary, harmful, **settings):
    return NetworkSource(model, DATA / "weights" / weights, str(DATA / primary), str(DATA / harmful), **settings)


def test_probes_behind_the_blocks_of_resnet20(tmp_path):
    mnist = source(
        "resnet20_cifar10", "resnet20_cifar10.safetensors", "cifar10/cifar10_subset.npz", "mnist", image_rows=2000
    )
    with jax.enable_x64(True):
        scene = open_scene(NetworkSubject(mnist, tmp_path), (), judged=2000, seed=0, with_random=False)
        (undefended,) = scene.exposed
        budgets = image_budgets(scene.labels, ())
        rows = draw_rows(scene.labels, budgets, seeds=1, seed=0).rows(budgets[0])
        operators = {one.name: one for one in operators_of(LAYERS, scene.classes)}
        for place, expected in PROBES.items():
            # The last part's outputs are the features.
            fit, judged = undefended.places["features" if place == "layer3.2" else place]
            for name, known in zip(("ridge regression", "perceptron"), expected, strict=True):
                operator = operators[name]
                runs = try_features(operator, fit, judged, rows, classes=10, seed=0, dtype=dtype_of(LAYERS))
                about = {
                    "rung": LAYERS,
                    "attacker": name,
                    "place": place,
                    "network": "",
                    "images": 2000,
                    "seconds": 0.0,
                }
                found = summarised(runs, operator.rates, operator.records, **about).best
                assert found == pytest.approx(known, abs=0.021), (place, name)


def test_what_the_outputs_of_efficientnet_give_away(tmp_path):
    cars = source("efficientnet_lite0", "efficientnet_lite0_imagenet.safetensors", "imagenet1k_sample", "cars196")
    with jax.enable_x64(True):
        found = output_floor(NetworkSubject(cars, tmp_path), judged=980)
    for output, known in OUTPUTS.items():
        assert found[output].accuracy.estimate >= known - 0.02, output
    features, *outputs = (found[output].accuracy.estimate for output in OUTPUTS)
    assert outputs == sorted(outputs, reverse=True)
    # Logits are some of what is in the features; with few images that may be all the easier to read.
    assert outputs[0] < features + 0.04
