"""A network small enough for tests, with weights that all differ."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cimm_jax.networks import Preprocess, ResNetConfig

NETWORK = ResNetConfig(
    (1, 1, 1),
    (4, 8, 12),
    3,
    cifar=True,
    preprocess=Preprocess.of_unit_pixels(16, (0.5,) * 3, (0.5,) * 3),
    names="cifar",
)


def filled(config, seed=0):
    """The network with random weights, made without compiling an initialisation."""
    rng = np.random.default_rng(seed)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: config.build(nnx.Rngs(0))))

    def numbers(path, leaf):
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 1
        values = rng.normal(size=leaf.shape) / np.sqrt(fan_in)
        return jnp.asarray(1 + 0.3 * np.abs(values) if path[-2].key in ("scale", "var") else values, jnp.float32)

    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(numbers, state))
