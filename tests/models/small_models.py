"""Small networks of every architecture, the first four in the sizes of the golden files."""

import jax
import jax.numpy as jnp

from cimm_jax.models import EfficientNetConfig, LinearConfig, Preprocess, ResNetConfig, VitConfig
from cimm_jax.models.efficientnet import Stage

THREE_GREYS = (0.5, 0.5, 0.5)


def pixels(size):
    return Preprocess.of_unit_pixels(size, THREE_GREYS, THREE_GREYS)


SMALL = {
    "resnet_transformers": ResNetConfig((2, 2, 1, 1), (4, 8, 8, 12), 3, preprocess=pixels(32)),
    "vit_transformers": VitConfig(16, 4, width=16, depth=2, heads=2, hidden=24, classes=3, preprocess=pixels(16)),
    "resnet_cifar": ResNetConfig((1, 2, 1), (4, 8, 12), 3, cifar=True, preprocess=pixels(16), names="cifar"),
    "efficientnet": EfficientNetConfig(
        (Stage(1, 3, 1, 1, 4), Stage(2, 5, 2, 3, 6), Stage(1, 3, 2, 6, 8)), 4, 16, 3, preprocess=pixels(20)
    ),
    "linear": LinearConfig(12, 8, 3, preprocess=pixels(2)),
}


def images(config, rows=2):
    size = config.preprocess.size
    return jax.random.normal(jax.random.key(1), (rows, size, size, 3), jnp.float32)
