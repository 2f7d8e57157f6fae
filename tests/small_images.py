"""Folders of images and weights that a command can be run on in a test."""

from pathlib import Path

import numpy as np
from networks.small_networks import NETWORK, filled
from PIL import Image

from cimm_jax.networks.resnet import RESNET20_CIFAR10
from cimm_jax.networks.weights import export_weights

CLASSES = 3


def write_inputs(root: Path) -> Path:
    """small.safetensors, and in primary/ and harmful/ noise around a colour and a pattern for each class."""
    export_weights(filled(NETWORK), root / "small.safetensors")
    rng = np.random.default_rng(0)
    for seed, task in enumerate(("primary", "harmful")):
        means = np.random.default_rng(10 + seed).integers(30, 226, (CLASSES, 16, 16, 3))
        for part, count in (("train", 12), ("test", 6)):
            for label in range(CLASSES):
                folder = root / task / part / f"class{label}"
                folder.mkdir(parents=True)
                for number in range(count):
                    pixels = np.clip(means[label] + rng.normal(0, 15, (16, 16, 3)), 0, 255)
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg", quality=95)
    return root


def write_cifar(root: Path, *, weights: str, images: str, count: int) -> Path:
    """A ResNet20 of random weights, and random images of CIFAR-10's shape, as many to train on as held out."""
    for path in (weights, images):
        (root / path).parent.mkdir()
    export_weights(filled(RESNET20_CIFAR10), root / weights)
    x = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)
    y = np.arange(count) % 10
    np.savez(root / images, x_train=x, y_train=y, x_test=x, y_test=y)
    return root
