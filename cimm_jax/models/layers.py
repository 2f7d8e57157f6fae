"""Layers that more than one architecture is made of."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

SAME = "SAME"
"""TensorFlow's padding: as much as gives ceil(size / stride) outputs, the odd row or column at the end."""

Padding = int | str
"""Rows and columns on every side, as PyTorch counts them, or `SAME`."""


@dataclass(frozen=True)
class NormSettings:
    """What the original network's batch normalisation was trained with.

    Attributes:
      epsilon: added to the variance.
      momentum: how much of the stored statistics a training step keeps: 1 minus what PyTorch calls momentum. The stored
        variance is that of the batch, where PyTorch stores n / (n - 1) times it.
    """

    epsilon: float
    momentum: float


class ConvNorm(nnx.Module):
    """A convolution without bias, then batch normalisation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        norm: NormSettings,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: Padding = 0,
        groups: int = 1,
    ):
        self.conv = nnx.Conv(
            inputs,
            outputs,
            (kernel, kernel),
            strides=stride,
            padding=padding,
            feature_group_count=groups,
            use_bias=False,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            rngs=rngs,
        )
        # The fast variance is a difference of squares, which loses digits where the mean is large.
        self.norm = nnx.BatchNorm(
            outputs, momentum=norm.momentum, epsilon=norm.epsilon, use_fast_variance=False, rngs=rngs
        )

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, height / stride, width / stride, outputs)."""
        return self.norm(self.conv(x), use_running_average=not training)


class GlobalMean(nnx.Module):
    """The mean over height and width: shape (N, height, width, channels) -> (N, channels)."""

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """The features of the maps; the same in training."""
        del training
        return jnp.mean(x, axis=(1, 2))
