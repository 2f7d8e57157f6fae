"""A small extractor behind somebody's own features: residual blocks that begin as the identity on standardised features.

x_0 = (x - mean) / deviation,     x_{i+1} = x_i + W_2 relu(W_1 x_i + b_1) + b_2,     W_2 = b_2 = 0 at first
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.key_maps import PLAIN, Entry, KeyMap, linear_entries
from cimm_jax.networks.rows import Rows

__all__ = [
    "BLOCKS",
    "FIRST_BLOCK",
    "INPUT",
    "MOST_HIDDEN",
    "ResidualBlock",
    "ResidualConfig",
    "Standardise",
    "residual_extractor",
]

INPUT, FIRST_BLOCK = "before the extractor", "block0"
"""The part that standardises, whose outputs are what comes in, and the first that is trained."""

BLOCKS = 2

MOST_HIDDEN = 1024
"""Units of a block's hidden layer; with fewer features, four times as many as there are."""


@dataclass(frozen=True)
class ResidualConfig:
    """An extractor of d features from d. Cut points: before the extractor, block0, block1, ..., features.

    Attributes:
      width: d.
      hidden: units of each block.
      classes: outputs of the head.
      blocks: how many there are.
      names: key map for exports.
    """

    width: int
    hidden: int
    classes: int
    blocks: int = BLOCKS
    names: str = "torch"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """Linear layers as PyTorch has them."""
        return (KeyMap("torch", _entries),)

    @property
    def preprocess(self) -> Rows:
        """Rows come as they are."""
        return Rows(self.width)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """One row."""
        return (self.width,)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The extractor with blocks that are the identity, and nothing standardised."""
        parts: dict[str, nnx.Module] = {INPUT: Standardise(self.width)}
        parts |= {f"block{number}": ResidualBlock(self, rngs=rngs) for number in range(self.blocks)}
        return Backbone(self, parts, nnx.Linear(self.width, self.classes, rngs=rngs))


class Standardise(nnx.Module):
    """Takes a mean off and divides by a deviation; both are kept when everything else is trained."""

    def __init__(self, width: int):
        self.mean = nnx.BatchStat(jnp.zeros(width, jnp.float32))
        self.deviation = nnx.BatchStat(jnp.ones(width, jnp.float32))

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, d) -> (N, d); the same in training."""
        del training
        return (x.reshape(len(x), -1) - self.mean[...][None]) / self.deviation[...][None]


class ResidualBlock(nnx.Module):
    """x + W_2 relu(W_1 x + b_1) + b_2, the identity at first."""

    def __init__(self, config: ResidualConfig, *, rngs: nnx.Rngs):
        zeros = nnx.initializers.zeros_init()
        self.first = nnx.Linear(config.width, config.hidden, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        self.second = nnx.Linear(config.hidden, config.width, kernel_init=zeros, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, d) -> (N, d); the same in training."""
        del training
        return x + self.second(jax.nn.relu(self.first(x)))


def residual_extractor(mean: np.ndarray, deviation: np.ndarray, classes: int) -> Backbone:
    """The extractor that gives standardised features, with a head that says nothing of use yet.

    Args:
      mean: of each feature, shape (d,).
      deviation: of each feature, shape (d,), positive.
      classes: outputs of the head.
    """
    width = len(mean)
    network = ResidualConfig(width, min(4 * width, MOST_HIDDEN), classes).build(nnx.Rngs(0))
    first: Standardise = network.parts[INPUT]  # pyright: ignore
    first.mean[...] = jnp.asarray(mean, jnp.float32)
    first.deviation[...] = jnp.asarray(deviation, jnp.float32)
    return network


def _entries(config: ResidualConfig) -> list[Entry]:
    found = [Entry(f"input.{name}", (("parts", INPUT, name),), PLAIN) for name in ("mean", "deviation")]
    for number in range(config.blocks):
        for layer in ("first", "second"):
            found += linear_entries(f"blocks.{number}.{layer}", ("parts", f"block{number}", layer))
    return [*found, *linear_entries("head", ("head",))]
