"""Layers that more than one architecture is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.networks.convolution import SAME, Convolution, Padding, pads_of

__all__ = [
    "ACTIVATIONS",
    "ConvNorm",
    "DepthwiseConv",
    "DepthwiseNorm",
    "GlobalMean",
    "NormSettings",
    "layer_norm",
    "linear_head",
]

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    # The usual tanh approximation of the first is off by up to 5e-4.
    "gelu": partial(jax.nn.gelu, approximate=False),
    "gelu_new": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
}
"""Nonlinearities by the name that configurations of the transformers library have for them."""


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
    """A convolution without bias, then batch normalisation: one convolution and a bias, if the statistics are the stored."""

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
    ):
        self.conv = Convolution(inputs, outputs, kernel, stride=stride, padding=padding, rngs=rngs)
        self.norm = _batch_norm(outputs, norm, rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, height / stride, width / stride, outputs)."""
        return _normalised(self.conv, self.norm, x, training)


class DepthwiseNorm(nnx.Module):
    """A convolution of each channel by itself without bias, then batch normalisation."""

    def __init__(
        self,
        channels: int,
        kernel: int,
        *,
        norm: NormSettings,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: Padding = SAME,
    ):
        self.conv = DepthwiseConv(channels, kernel, stride, padding=padding, rngs=rngs)
        self.norm = _batch_norm(channels, norm, rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, channels) -> (N, height', width', channels), as `DepthwiseConv`."""
        return _normalised(self.conv, self.norm, x, training)


class DepthwiseConv(nnx.Module):
    """A convolution of each channel by itself, as a sum of shifted images.

    XLA's grouped convolution takes four to twenty times as long on a CPU.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, *, padding: Padding = SAME, rngs: nnx.Rngs):
        self.stride, self.padding = stride, padding
        # Each output sees kernel^2 inputs, and each input as many outputs: here that is what flax calls fan_in.
        init = nnx.initializers.variance_scaling(2.0, "fan_in", "normal")
        self.kernel = nnx.Param(init(rngs.params(), (kernel, kernel, 1, channels), jnp.float32))

    def __call__(self, x: jax.Array, scale: jax.Array | None = None) -> jax.Array:
        """Shape (N, height, width, channels) -> (N, height', width', channels), with `SAME` ceil(height / stride) and so on.

        A scale for each channel, shape (channels,), multiplies the result.
        """
        kernel, stride = self.kernel[...], self.stride
        if scale is not None:
            kernel = kernel * scale[None, None, None]
        pads = pads_of(self.padding, x.shape[1:3], kernel.shape[:2], stride)
        lengths = [
            (length + sum(pad) - size) // stride + 1
            for length, pad, size in zip(x.shape[1:3], pads, kernel.shape[:2], strict=True)
        ]
        padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))

        def shifted(row: int, column: int) -> jax.Array:
            rows, columns = (
                slice(start, start + stride * (length - 1) + 1, stride)
                for start, length in zip((row, column), lengths, strict=True)
            )
            return padded[:, rows, columns] * kernel[row, column][None, None]

        terms = [shifted(row, column) for row in range(kernel.shape[0]) for column in range(kernel.shape[1])]
        return sum(terms[1:], terms[0])


def _normalised(conv: Convolution | DepthwiseConv, norm: nnx.BatchNorm, x: jax.Array, training: bool) -> jax.Array:
    """Batch normalisation of the convolution.

    With stored statistics it is affine, and goes into the kernel: s (k * x) + (bias - s mean) = (s k) * x + (bias - s mean),
    s = scale / sqrt(var + epsilon). The gradient then needs neither the convolution's outputs nor a sum over them.
    """
    if training:
        return norm(conv(x), use_running_average=False)
    assert norm.scale is not None
    assert norm.bias is not None
    scale = norm.scale[...] * jax.lax.rsqrt(norm.var[...] + norm.epsilon)
    return conv(x, scale) + (norm.bias[...] - norm.mean[...] * scale)[None, None, None]


def _batch_norm(channels: int, norm: NormSettings, rngs: nnx.Rngs) -> nnx.BatchNorm:
    # The fast variance is a difference of squares, which loses digits where the mean is large.
    return nnx.BatchNorm(channels, momentum=norm.momentum, epsilon=norm.epsilon, use_fast_variance=False, rngs=rngs)


def layer_norm(width: int, epsilon: float, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Layer normalisation over the last axis."""
    # The fast variance is a difference of squares, which loses digits where the mean is large.
    return nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


class GlobalMean(nnx.Module):
    """The mean over height and width: shape (N, height, width, channels) -> (N, channels)."""

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """The features of the maps; the same in training."""
        del training
        return jnp.mean(x, axis=(1, 2))


def linear_head(features: int, classes: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """A head with the usual fresh parameters; without classes, an empty one."""
    if not classes:
        return nnx.Linear(features, 0, kernel_init=nnx.initializers.zeros_init(), rngs=rngs)
    return nnx.Linear(features, classes, rngs=rngs)
