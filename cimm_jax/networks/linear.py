"""The paper's linear extractor: features x theta, with theta the identity at first."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.key_maps import LINEAR, Entry, KeyMap, linear_entries
from cimm_jax.networks.preprocess import Preprocess

__all__ = ["MNIST", "MNIST_EXTRACTOR", "Extractor", "LinearConfig"]

MNIST = Preprocess.of_unit_pixels(28, (0.1307,), (0.3081,))


@dataclass(frozen=True)
class LinearConfig:
    """A linear extractor.

    Attributes:
      inputs: length of an input row; images are flattened to one.
      features: length of a feature row.
      classes: outputs of the head.
      preprocess: what images go through first.
      names: key map for exports.
    """

    inputs: int = 784
    features: int = 784
    classes: int = 10
    preprocess: Preprocess = field(default=MNIST)
    names: str = "torch"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """Names of each publisher of such networks."""
        return (KeyMap("torch", _linear_extractor),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """One row."""
        return (self.inputs,)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The extractor with theta, `parts["linear"].theta.kernel` of shape (inputs, features), the identity."""
        return Backbone(
            self,
            {"linear": Extractor(self.inputs, self.features, rngs=rngs)},
            nnx.Linear(self.features, self.classes, rngs=rngs),
        )


MNIST_EXTRACTOR = LinearConfig()


class Extractor(nnx.Module):
    """Flattens each input to a row and multiplies it by theta."""

    def __init__(self, inputs: int, features: int, *, rngs: nnx.Rngs):
        def identity(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype) -> jax.Array:
            del key
            return jnp.eye(*shape, dtype=dtype)

        self.theta = nnx.Linear(inputs, features, use_bias=False, kernel_init=identity, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, ...) -> (N, features); the same in training."""
        del training
        return self.theta(x.reshape(len(x), -1))


def _linear_extractor(config: LinearConfig) -> list[Entry]:
    del config
    theta = Entry("extractor.weight", (("parts", "linear", "theta", "kernel"),), LINEAR)
    return [theta, *linear_entries("head", ("head",))]
