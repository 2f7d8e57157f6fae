"""ConvNeXt (Liu et al., 2022): depthwise 7x7 convolutions, layer normalisation over channels, perceptrons at every pixel."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.data.tensor_file import Described
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.json_fields import MOST_LAYERS, Fields
from cimm_jax.networks.key_maps import (
    CONV,
    PLAIN,
    Entry,
    KeyMap,
    Path,
    bias_entries,
    conv_entries,
    layer_norm_entries,
    linear_entries,
)
from cimm_jax.networks.layers import ACTIVATIONS, DepthwiseConv, layer_norm
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.tensor_names import outputs_of, prefix_of

__all__ = ["EPSILON", "ConvNextBlock", "ConvNextConfig", "Downsampled", "Patches", "PooledNorm", "hub_convnext"]

EPSILON = 1e-6
"""Of all normalisations but the last."""

_INIT = nnx.initializers.truncated_normal(0.02)
_KERNEL, _WIDER, _SMALLER = 7, 4, 2


@dataclass(frozen=True)
class ConvNextConfig:
    """A ConvNeXt. Cut points: stem, stage1.0, stage1.1, ... , pool, features.

    Attributes:
      blocks: blocks of each stage; the first of every stage but the first begins by halving height and width.
      widths: channels of each stage; the last is the number of features.
      patch: height and width of the stem's patches.
      classes: outputs of the head; 0 if there is none.
      activation: one of `layers.ACTIVATIONS`.
      last_epsilon: of the normalisation of the features.
      layer_scale: whether what is added is scaled, each channel by its own number.
      prefix: how keys begin.
      preprocess: what images go through first.
      names: key map for exports.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    patch: int
    classes: int
    activation: str
    last_epsilon: float
    layer_scale: bool
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

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters (truncated normal, deviation 0.02)."""
        parts: dict[str, nnx.Module] = {"stem": Patches(self.patch, self.widths[0], rngs=rngs)}
        for stage, block, inputs in _places(self):
            made = ConvNextBlock(self.widths[stage], self.activation, layer_scale=self.layer_scale, rngs=rngs)
            parts[f"stage{stage + 1}.{block}"] = (
                Downsampled(inputs, self.widths[stage], made, rngs=rngs) if stage and not block else made
            )
        parts["pool"] = PooledNorm(self.widths[-1], self.last_epsilon, rngs=rngs)
        return Backbone(self, parts, nnx.Linear(self.widths[-1], self.classes, kernel_init=_INIT, rngs=rngs))


def hub_convnext(fields: Fields, tensors: Mapping[str, Described], preprocess: Preprocess) -> ConvNextConfig:
    """The configuration of a checkpoint.

    Args:
      fields: of config.json.
      tensors: what the weights hold.
      preprocess: what images go through first.

    Raises:
      InputError: if a field is missing or means something that there is not here.
    """
    widths = fields.counts("hidden_sizes", (96, 192, 384, 768))
    blocks = fields.counts("depths", (3, 3, 9, 3), most=MOST_LAYERS)
    if not widths or len(widths) != len(blocks):
        raise fields.unfit("depths", f"as many numbers as hidden_sizes has, {len(widths)}")
    return ConvNextConfig(
        blocks,
        widths,
        fields.side("patch_size", 4),
        outputs_of(tensors, ("classifier.weight",)),
        fields.word("hidden_act", tuple(ACTIVATIONS), "gelu"),
        fields.number("layer_norm_eps", 1e-12),
        fields.number("layer_scale_init_value", 1e-6) > 0,
        prefix_of(tensors, "embeddings.patch_embeddings.weight", ("convnext.", "")),
        preprocess,
    )


def _places(config: ConvNextConfig) -> Sequence[tuple[int, int, int]]:
    """Stage and block, both from 0, and the channels that enter it."""
    found, inputs = [], config.widths[0]
    for stage, (blocks, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
        for block in range(blocks):
            found.append((stage, block, inputs))
            inputs = width
    return found


def _windows(inputs: int, outputs: int, size: int, rngs: nnx.Rngs) -> nnx.Conv:
    """A convolution of windows side by side."""
    window = (size, size)
    return nnx.Conv(inputs, outputs, window, strides=window, padding="VALID", kernel_init=_INIT, rngs=rngs)


class Patches(nnx.Module):
    """What comes before the blocks: patches, each normalised over its channels."""

    def __init__(self, patch: int, width: int, *, rngs: nnx.Rngs):
        self.conv = _windows(3, width, patch, rngs)
        self.norm = layer_norm(width, EPSILON, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, 3) -> (N, height / patch, width / patch, channels); the same in training."""
        del training
        return self.norm(self.conv(x))


class ConvNextBlock(nnx.Module):
    """A depthwise convolution, then at every pixel a normalisation and a perceptron of two layers; added to its input."""

    def __init__(self, width: int, activation: str, *, layer_scale: bool, rngs: nnx.Rngs):
        self.activation = activation
        self.depthwise = DepthwiseConv(width, _KERNEL, rngs=rngs)
        self.depthwise_bias = nnx.Param(jnp.zeros((width,), jnp.float32))
        self.norm = layer_norm(width, EPSILON, rngs=rngs)
        self.up = nnx.Linear(width, _WIDER * width, kernel_init=_INIT, rngs=rngs)
        self.down = nnx.Linear(_WIDER * width, width, kernel_init=_INIT, rngs=rngs)
        self.scale = nnx.data(nnx.Param(jnp.ones((width,), jnp.float32)) if layer_scale else None)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, channels) -> the same; the same in training."""
        del training
        y = self.norm(self.depthwise(x) + self.depthwise_bias[...][None, None, None])
        y = self.down(ACTIVATIONS[self.activation](self.up(y)))
        return x + (y if self.scale is None else y * self.scale[...][None, None, None])


class Downsampled(nnx.Module):
    """The first block of a later stage: normalisation and a 2x2 convolution that halves height and width go before it."""

    def __init__(self, inputs: int, outputs: int, block: ConvNextBlock, *, rngs: nnx.Rngs):
        self.norm = layer_norm(inputs, EPSILON, rngs=rngs)
        self.conv = _windows(inputs, outputs, _SMALLER, rngs)
        self.block = block

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, height / 2, width / 2, outputs); the same in training."""
        return self.block(self.conv(self.norm(x)), training)


class PooledNorm(nnx.Module):
    """The mean over height and width, normalised."""

    def __init__(self, width: int, epsilon: float, *, rngs: nnx.Rngs):
        self.norm = layer_norm(width, epsilon, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, channels) -> (N, channels); the same in training."""
        del training
        return self.norm(x.mean((1, 2)))


def _entries(config: ConvNextConfig) -> list[Entry]:
    embeddings, stem = f"{config.prefix}embeddings", ("parts", "stem")
    entries = _biased(f"{embeddings}.patch_embeddings", (*stem, "conv"))
    entries += layer_norm_entries(f"{embeddings}.layernorm", (*stem, "norm"))
    entries += layer_norm_entries(f"{config.prefix}layernorm", ("parts", "pool", "norm"))
    entries += linear_entries("classifier", ("head",)) if config.classes else []
    for stage, block, _ in _places(config):
        of_stage, path = f"{config.prefix}encoder.stages.{stage}", ("parts", f"stage{stage + 1}.{block}")
        if stage and not block:
            entries += layer_norm_entries(f"{of_stage}.downsampling_layer.0", (*path, "norm"))
            entries += _biased(f"{of_stage}.downsampling_layer.1", (*path, "conv"))
            path = (*path, "block")
        key = f"{of_stage}.layers.{block}"
        entries += [
            Entry(f"{key}.dwconv.weight", ((*path, "depthwise", "kernel"),), CONV),
            Entry(f"{key}.dwconv.bias", ((*path, "depthwise_bias"),), PLAIN),
            *layer_norm_entries(f"{key}.layernorm", (*path, "norm")),
            *linear_entries(f"{key}.pwconv1", (*path, "up")),
            *linear_entries(f"{key}.pwconv2", (*path, "down")),
        ]
        if config.layer_scale:
            entries.append(Entry(f"{key}.layer_scale_parameter", ((*path, "scale"),), PLAIN))
    return entries


def _biased(key: str, path: Path) -> list[Entry]:
    return conv_entries(key, path) + bias_entries(key, path)
