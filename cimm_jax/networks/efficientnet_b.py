"""EfficientNet-B0 to B7 (Tan and Le, 2019) as the transformers library has them: squeeze-and-excitation, swish.

Padding is TensorFlow's for images of each network's own size, but fixed: with stride 2 it does not depend on the image.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.data.tensor_file import Described
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.convolution import SAME, Padding
from cimm_jax.networks.json_fields import MOST_LAYERS, Fields
from cimm_jax.networks.key_maps import (
    Entry,
    KeyMap,
    Path,
    bias_entries,
    conv_entries,
    conv_norm_entries,
    linear_entries,
)
from cimm_jax.networks.layers import ACTIVATIONS, ConvNorm, DepthwiseNorm, GlobalMean, NormSettings, linear_head
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.tensor_names import outputs_of, prefix_of
from cimm_jax.numerics.products import product

__all__ = ["MOMENTUM", "BlockShape", "EfficientNetBConfig", "Excited", "MobileBlock", "Unit", "hub_efficientnet"]

MOMENTUM = 0.99
"""Of the stored statistics, as the networks were trained."""

_STEM, _TOP = 32, 1280
"""Channels before they are scaled."""


@dataclass(frozen=True)
class BlockShape:
    """One block.

    Attributes:
      inputs: channels that enter.
      outputs: channels that leave.
      kernel: height and width of the depthwise convolution.
      stride: of it.
      expand: how many times its inputs a block is wide inside; 1 leaves the expansion out.
      squeezed: channels between the two layers of squeeze-and-excitation.
      padding: of the depthwise convolution.
      adds: whether the inputs are added.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    expand: int
    squeezed: int
    padding: Padding
    adds: bool


@dataclass(frozen=True)
class EfficientNetBConfig:
    """An EfficientNet. Cut points: stem, block0, block1, ... , top, pool, features.

    Attributes:
      shapes: of the blocks.
      stem: channels that enter them.
      top: channels of the last 1x1 convolution, which is the number of features.
      classes: outputs of the head; 0 if there is none.
      activation: one of `layers.ACTIVATIONS`.
      epsilon: of the batch normalisations.
      prefix: how keys begin.
      preprocess: what images go through first.
      names: key map for exports.
    """

    shapes: tuple[BlockShape, ...]
    stem: int
    top: int
    classes: int
    activation: str
    epsilon: float
    prefix: str
    preprocess: Preprocess
    names: str = "transformers"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """The names of the transformers library."""
        return (KeyMap("transformers", _entries),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Images of any size."""
        return (None, None, 3)

    @property
    def norm(self) -> NormSettings:
        """Of the batch normalisations."""
        return NormSettings(self.epsilon, MOMENTUM)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters (normal initialisation over outputs)."""
        stem = Unit(3, self.stem, 3, self, stride=2, padding=(0, 1), rngs=rngs)
        parts: dict[str, nnx.Module] = {"stem": stem}
        parts |= {f"block{number}": MobileBlock(shape, self, rngs=rngs) for number, shape in enumerate(self.shapes)}
        last = self.shapes[-1].outputs if self.shapes else self.stem
        parts["top"] = Unit(last, self.top, 1, self, rngs=rngs)
        parts["pool"] = GlobalMean()
        return Backbone(self, parts, linear_head(self.top, self.classes, rngs=rngs))


def hub_efficientnet(fields: Fields, tensors: Mapping[str, Described], preprocess: Preprocess) -> EfficientNetBConfig:
    """The configuration of a checkpoint.

    Args:
      fields: of config.json.
      tensors: what the weights hold.
      preprocess: what images go through first.

    Raises:
      InputError: if a field is missing or means something that there is not here.
    """
    fields.word("pooling_type", ("mean",), "mean")
    return EfficientNetBConfig(
        _shapes(fields),
        _channels(fields, _STEM),
        _channels(fields, _TOP),
        outputs_of(tensors, ("classifier.weight",)),
        fields.word("hidden_act", tuple(ACTIVATIONS), "swish"),
        fields.number("batch_norm_eps", 1e-3),
        prefix_of(tensors, "embeddings.convolution.weight", ("efficientnet.", "")),
        preprocess,
    )


def _channels(fields: Fields, channels: int) -> int:
    """Channels of this network: scaled, and then a multiple of a number, at least 0.9 times as many."""
    divisor, scaled = fields.count("depth_divisor", 8), channels * fields.number("width_coefficient", 2.0)
    found = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return found + divisor if found < 0.9 * scaled else found


def _shapes(fields: Fields) -> tuple[BlockShape, ...]:
    columns = {
        "in_channels": (32, 16, 24, 40, 80, 112, 192),
        "out_channels": (16, 24, 40, 80, 112, 192, 320),
        "kernel_sizes": (3, 3, 5, 3, 5, 5, 3),
        "strides": (1, 2, 2, 2, 1, 2, 1),
        "expand_ratios": (1, 6, 6, 6, 6, 6, 6),
        "num_block_repeats": (1, 2, 2, 3, 3, 4, 1),
    }
    stages = {name: fields.counts(name, default) for name, default in columns.items()}
    lengths = {len(column) for column in stages.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise fields.unfit("in_channels", f"as many numbers as {', '.join(list(columns)[1:])}")
    if set(stages["strides"]) - {1, 2} or any(kernel % 2 == 0 for kernel in stages["kernel_sizes"]):
        raise fields.unfit("strides", "1 or 2 for every stage, and odd kernel_sizes")
    squeeze, depth = fields.number("squeeze_expansion_ratio", 0.25), fields.number("depth_coefficient", 3.1)
    symmetric = set(fields.counts("depthwise_padding", (), least=0))
    found: list[BlockShape] = []
    for inputs, outputs, kernel, stride, expand, repeats in zip(*stages.values(), strict=True):
        entering, leaving = _channels(fields, inputs), _channels(fields, outputs)
        blocks = math.ceil(depth * repeats)
        if len(found) + blocks > MOST_LAYERS:
            raise fields.unfit("depth_coefficient", f"at most {MOST_LAYERS} blocks")
        for block in range(blocks):
            step = 1 if block else stride
            half = kernel // 2
            fixed = (half, half) if len(found) in symmetric else (half - 1, half)
            squeezed = max(1, int(entering * squeeze))
            padding = fixed if step == 2 else SAME
            # The publisher's: a first block with stride 1 adds nothing, even where the shapes agree.
            found.append(BlockShape(entering, leaving, kernel, step, expand, squeezed, padding, adds=block > 0))
            entering = leaving
    return tuple(found)


class Unit(nnx.Module):
    """A convolution, batch normalisation and the activation."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        config: EfficientNetBConfig,
        *,
        rngs: nnx.Rngs,
        stride: int = 1,
        padding: Padding = 0,
    ):
        self.activation = config.activation
        self.inner = ConvNorm(inputs, outputs, kernel, stride=stride, padding=padding, norm=config.norm, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, height / stride, width / stride, outputs), rounded down."""
        return ACTIVATIONS[self.activation](self.inner(x, training))


class _Layer(nnx.Module):
    """A layer on one number a channel, kept as the 1x1 convolution that it is for the publisher."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.lecun_normal()
        self.kernel = nnx.Param(init(rngs.params(), (1, 1, inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((outputs,), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Shape (N, inputs) -> (N, outputs)."""
        return product(x, self.kernel[...][0, 0]) + self.bias[...][None]


class Excited(nnx.Module):
    """Squeeze-and-excitation (Hu et al., 2018): channels weighted by what their means over the image say."""

    def __init__(self, channels: int, squeezed: int, activation: str, *, rngs: nnx.Rngs):
        self.activation = activation
        self.reduce = _Layer(channels, squeezed, rngs=rngs)
        self.expand = _Layer(squeezed, channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Shape (N, height, width, channels) -> the same."""
        squeezed = ACTIVATIONS[self.activation](self.reduce(x.mean((1, 2))))
        return x * jax.nn.sigmoid(self.expand(squeezed))[:, None, None]


class MobileBlock(nnx.Module):
    """Widen, filter each channel by itself, weight the channels, narrow."""

    def __init__(self, shape: BlockShape, config: EfficientNetBConfig, *, rngs: nnx.Rngs):
        inner = shape.inputs * shape.expand
        self.adds, self.activation = shape.adds, config.activation
        self.expand = nnx.data(Unit(shape.inputs, inner, 1, config, rngs=rngs) if shape.expand != 1 else None)
        self.depthwise = DepthwiseNorm(
            inner, shape.kernel, stride=shape.stride, padding=shape.padding, norm=config.norm, rngs=rngs
        )
        self.excited = Excited(inner, shape.squeezed, config.activation, rngs=rngs)
        self.project = ConvNorm(inner, shape.outputs, 1, norm=config.norm, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, height / stride, width / stride, outputs), rounded down."""
        y = x if self.expand is None else self.expand(x, training)
        y = ACTIVATIONS[self.activation](self.depthwise(y, training))
        y = self.project(self.excited(y), training)
        return x + y if self.adds else y


def _entries(config: EfficientNetBConfig) -> list[Entry]:
    def unit(key: str, conv: str, norm: str, path: Path) -> list[Entry]:
        return conv_norm_entries(f"{config.prefix}{key}{conv}", f"{config.prefix}{key}{norm}", path)

    entries = unit("embeddings.", "convolution", "batchnorm", ("parts", "stem", "inner"))
    entries += unit("encoder.", "top_conv", "top_bn", ("parts", "top", "inner"))
    for number, shape in enumerate(config.shapes):
        key, path = f"encoder.blocks.{number}.", ("parts", f"block{number}")
        if shape.expand != 1:
            entries += unit(f"{key}expansion.", "expand_conv", "expand_bn", (*path, "expand", "inner"))
        entries += unit(f"{key}depthwise_conv.", "depthwise_conv", "depthwise_norm", (*path, "depthwise"))
        for name in ("reduce", "expand"):
            layer, of_layer = f"{config.prefix}{key}squeeze_excite.{name}", (*path, "excited", name)
            entries += conv_entries(layer, of_layer) + bias_entries(layer, of_layer)
        entries += unit(f"{key}projection.", "project_conv", "project_bn", (*path, "project"))
    return entries + (linear_entries("classifier", ("head",)) if config.classes else [])
