"""A perceptron on raw pixels: the smallest network with layers, for digits and for trying things out."""

from dataclasses import dataclass, field

import jax
from flax import nnx

from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.key_maps import Entry, KeyMap, linear_entries
from cimm_jax.networks.preprocess import Preprocess

__all__ = ["MLP_DIGITS", "Layer", "PerceptronConfig"]

DIGITS = Preprocess.of_unit_pixels(8, (0.305,), (0.376,))


@dataclass(frozen=True)
class PerceptronConfig:
    """A perceptron. Cut points: layer0, layer1, ... , features.

    Attributes:
      inputs: length of an input row; images are flattened to one.
      widths: outputs of each layer, rectified; the last are the features.
      classes: outputs of the head.
      preprocess: what images go through first.
      names: key map for exports.
    """

    inputs: int
    widths: tuple[int, ...]
    classes: int
    preprocess: Preprocess = field(default=DIGITS)
    names: str = "torch"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """Names of each publisher of such networks."""
        return (KeyMap("torch", _entries),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """One row."""
        return (self.inputs,)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters."""
        sizes = (self.inputs, *self.widths)
        parts = {f"layer{i}": Layer(sizes[i], width, rngs=rngs) for i, width in enumerate(self.widths)}
        return Backbone(self, parts, nnx.Linear(sizes[-1], self.classes, rngs=rngs))


MLP_DIGITS = PerceptronConfig(64, (128, 64, 32), 10)


class Layer(nnx.Module):
    """A linear layer and a rectifier; images are flattened first."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        self.linear = nnx.Linear(inputs, outputs, kernel_init=nnx.initializers.he_normal(), rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, ...) -> (N, outputs); the same in training."""
        del training
        return jax.nn.relu(self.linear(x.reshape(len(x), -1)))


def _entries(config: PerceptronConfig) -> list[Entry]:
    layers = [linear_entries(f"layers.{i}", ("parts", f"layer{i}", "linear")) for i in range(len(config.widths))]
    return [*(entry for layer in layers for entry in layer), *linear_entries("head", ("head",))]
