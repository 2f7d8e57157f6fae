"""Networks small enough for tests, one of every architecture, with weights that all differ."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cimm_jax.networks.efficientnet import EfficientNetConfig, Stage
from cimm_jax.networks.linear import LinearConfig
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.resnet import ResNetConfig
from cimm_jax.networks.vit import VitConfig

THREE_GREYS = (0.5, 0.5, 0.5)


def pixels(size):
    return Preprocess.of_unit_pixels(size, THREE_GREYS, THREE_GREYS)


# The first four in the sizes of the golden files.
SMALL = {
    "resnet_transformers": ResNetConfig((2, 2, 1, 1), (4, 8, 8, 12), 3, preprocess=pixels(32)),
    "vit_transformers": VitConfig(16, 4, width=16, depth=2, heads=2, hidden=24, classes=3, preprocess=pixels(16)),
    "resnet_cifar": ResNetConfig((1, 2, 1), (4, 8, 12), 3, cifar=True, preprocess=pixels(16), names="cifar"),
    "efficientnet": EfficientNetConfig(
        (Stage(1, 3, 1, 1, 4), Stage(2, 5, 2, 3, 6), Stage(1, 3, 2, 6, 8)), 4, 16, 3, preprocess=pixels(20)
    ),
    "linear": LinearConfig(12, 8, 3, preprocess=pixels(2)),
}

NETWORK = ResNetConfig((1, 1, 1), (4, 8, 12), 3, cifar=True, preprocess=pixels(16), names="cifar")
"""The smallest, for tests that train one or run it again and again."""


def filled(config, seed=0):
    """A network of the configuration whose arrays all differ, made without compiling an initialisation for each."""
    rng = np.random.default_rng(seed)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: config.build(nnx.Rngs(0))))

    def numbers(path, leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 1
        values = rng.normal(size=leaf.shape) / np.sqrt(fan_in)
        return jnp.asarray(1 + 0.3 * np.abs(values) if path[-2].key in ("scale", "var") else values, jnp.float32)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(numbers, state))


def images(config, rows=2):
    size = config.preprocess.size
    return jnp.asarray(np.random.default_rng(1).normal(size=(rows, size, size, 3)), jnp.float32)
