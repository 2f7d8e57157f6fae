"""ResNets (He et al., 2015) of basic or bottleneck blocks: for ImageNet, and the smaller ones for CIFAR of its section 4.2."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.data.tensor_file import Described
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.json_fields import MOST_LAYERS, Fields
from cimm_jax.networks.key_maps import Entry, KeyMap, Path, conv_norm_entries, linear_entries
from cimm_jax.networks.layers import ConvNorm, GlobalMean, NormSettings, linear_head
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.tensor_names import outputs_of, prefix_of

__all__ = [
    "CIFAR",
    "IMAGENET",
    "NORM",
    "RESNET18",
    "RESNET20_CIFAR10",
    "RESNET34",
    "RESNET56_CIFAR10",
    "BasicBlock",
    "Bottleneck",
    "ResNetConfig",
    "Stem",
    "hub_resnet",
]

NORM = NormSettings(epsilon=1e-5, momentum=0.9)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Preprocess.of_unit_pixels(224, _MEAN, _DEVIATION)
CIFAR = Preprocess.of_unit_pixels(32, _MEAN, _DEVIATION)

_NARROWER = 4
"""How many times narrower a bottleneck is inside."""


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet. Cut points: stem, layer1.0, layer1.1, ... , pool, features.

    Attributes:
      blocks: blocks of each stage; every stage but the first halves height and width.
      widths: channels of each stage; the last is the number of features.
      classes: outputs of the head; 0 if there is none.
      cifar: a 3x3 stem that keeps the size, and shortcuts without parameters (option A); otherwise a 7x7 stem and a
        max-pooling that quarter the size, and 1x1 convolutions for shortcuts (option B).
      stem: channels that enter the first stage; None are as many as leave it.
      bottleneck: whether blocks narrow to a quarter of their outputs inside; or else they are basic.
      early_stride: whether a bottleneck's first convolution has the stride, as in the paper; the second, if not.
      first_stride: of the first stage.
      prefix: how the keys of the transformers library begin, but for the head's.
      preprocess: what images go through first.
      names: key map for exports.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int
    cifar: bool = False
    stem: int | None = None
    bottleneck: bool = False
    early_stride: bool = False
    first_stride: int = 1
    prefix: str = "resnet."
    preprocess: Preprocess = field(default=IMAGENET)
    names: str = "transformers"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """Names of each publisher of such networks."""
        return (
            KeyMap("transformers", _transformers_resnet),
            KeyMap("timm", _torchvision_resnet("fc")),
            KeyMap("cifar", _torchvision_resnet("linear")),
        )

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Images of any size."""
        return (None, None, 3)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters (He's normal initialisation over outputs)."""
        parts: dict[str, nnx.Module] = {"stem": Stem(self.first_width, cifar=self.cifar, rngs=rngs)}
        for stage, block, inputs, stride in _resnet_blocks(self):
            width = self.widths[stage]
            parts[f"layer{stage + 1}.{block}"] = (
                Bottleneck(inputs, width, stride, early_stride=self.early_stride, rngs=rngs)
                if self.bottleneck
                else BasicBlock(inputs, width, stride, cifar=self.cifar, rngs=rngs)
            )
        parts["pool"] = GlobalMean()
        return Backbone(self, parts, linear_head(self.widths[-1], self.classes, rngs=rngs))

    @property
    def first_width(self) -> int:
        """Channels that enter the first stage."""
        return self.widths[0] if self.stem is None else self.stem


RESNET18 = ResNetConfig((2, 2, 2, 2), (64, 128, 256, 512), 1000)
RESNET34 = ResNetConfig((3, 4, 6, 3), (64, 128, 256, 512), 1000)
RESNET20_CIFAR10 = ResNetConfig((3, 3, 3), (16, 32, 64), 10, cifar=True, preprocess=CIFAR, names="cifar")
RESNET56_CIFAR10 = ResNetConfig((9, 9, 9), (16, 32, 64), 10, cifar=True, preprocess=CIFAR, names="cifar")


class Stem(nnx.Module):
    """What comes before the blocks."""

    def __init__(self, width: int, *, cifar: bool, rngs: nnx.Rngs):
        self.cifar = cifar
        kernel, stride, padding = (3, 1, 1) if cifar else (7, 2, 3)
        self.first = ConvNorm(3, width, kernel, stride=stride, padding=padding, norm=NORM, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, 3) -> (N, height, width, channels), a quarter the size for ImageNet."""
        x = jax.nn.relu(self.first(x, training))
        if self.cifar:
            return x
        sides = ((0, 0), (1, 1), (1, 1), (0, 0))
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), sides)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions beside a shortcut, which changes the shape where they do."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, cifar: bool, rngs: nnx.Rngs):
        self.stride, self.extra_channels = stride, outputs - inputs
        self.first = ConvNorm(inputs, outputs, 3, stride=stride, padding=1, norm=NORM, rngs=rngs)
        self.second = ConvNorm(outputs, outputs, 3, padding=1, norm=NORM, rngs=rngs)
        reshapes = not cifar and (stride != 1 or inputs != outputs)
        self.project = nnx.data(_projection(inputs, outputs, stride, rngs) if reshapes else None)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, height / stride, width / stride, outputs)."""
        y = jax.nn.relu(self.first(x, training))
        y = self.second(y, training)
        shortcut = self._option_a(x) if self.project is None else self.project(x, training)
        return jax.nn.relu(y + shortcut)

    def _option_a(self, x: jax.Array) -> jax.Array:
        """Every stride-th pixel, and channels of zeros, half of them on each side."""
        before = self.extra_channels // 2
        padding = ((0, 0), (0, 0), (0, 0), (before, self.extra_channels - before))
        return jnp.pad(x[:, :: self.stride, :: self.stride], padding)


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions, narrow but for the last, beside a shortcut, which changes the shape where they do."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, early_stride: bool, rngs: nnx.Rngs):
        inner, strides = outputs // _NARROWER, (stride, 1) if early_stride else (1, stride)
        self.first = ConvNorm(inputs, inner, 1, stride=strides[0], norm=NORM, rngs=rngs)
        self.second = ConvNorm(inner, inner, 3, stride=strides[1], padding=1, norm=NORM, rngs=rngs)
        self.third = ConvNorm(inner, outputs, 1, norm=NORM, rngs=rngs)
        reshapes = stride != 1 or inputs != outputs
        self.project = nnx.data(_projection(inputs, outputs, stride, rngs) if reshapes else None)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, height / stride, width / stride, outputs)."""
        y = jax.nn.relu(self.first(x, training))
        y = jax.nn.relu(self.second(y, training))
        y = self.third(y, training)
        return jax.nn.relu(y + (x if self.project is None else self.project(x, training)))


def _projection(inputs: int, outputs: int, stride: int, rngs: nnx.Rngs) -> ConvNorm:
    return ConvNorm(inputs, outputs, 1, stride=stride, norm=NORM, rngs=rngs)


def hub_resnet(fields: Fields, tensors: Mapping[str, Described], preprocess: Preprocess) -> ResNetConfig:
    """The configuration of a checkpoint of the transformers library.

    Args:
      fields: of config.json.
      tensors: what the weights hold, under the names of that library, of timm or torchvision.
      preprocess: what images go through first.

    Raises:
      InputError: if a field is missing or means something that there is not here.
    """
    blocks = fields.counts("depths", (3, 4, 6, 3), most=MOST_LAYERS)
    widths = fields.counts("hidden_sizes", (256, 512, 1024, 2048))
    if not widths or len(widths) != len(blocks):
        raise fields.unfit("depths", f"as many numbers as hidden_sizes has, {len(widths)}")
    fields.word("hidden_act", ("relu",), "relu")
    bottleneck = fields.word("layer_type", ("basic", "bottleneck"), "bottleneck") == "bottleneck"
    if bottleneck and any(width % _NARROWER for width in widths):
        raise fields.unfit("hidden_sizes", f"multiples of {_NARROWER}")
    return ResNetConfig(
        blocks,
        widths,
        outputs_of(tensors, ("classifier.1.weight", "fc.weight")),
        stem=fields.count("embedding_size", 64),
        bottleneck=bottleneck,
        early_stride=fields.flag("downsample_in_bottleneck", False),
        first_stride=2 if fields.flag("downsample_in_first_stage", False) else 1,
        prefix=prefix_of(tensors, "embedder.embedder.convolution.weight", ("resnet.", "")),
        preprocess=preprocess,
    )


def _resnet_blocks(config: ResNetConfig) -> Sequence[tuple[int, int, int, int]]:
    """Stage and block, both from 0, the channels that enter it, and its stride."""
    found, inputs = [], config.first_width
    for stage, (blocks, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
        for block in range(blocks):
            stride = 1 if block else config.first_stride if stage == 0 else 2
            found.append((stage, block, inputs, stride))
            inputs = width
    return found


def _block_paths(config: ResNetConfig) -> Sequence[tuple[int, int, Path, bool]]:
    """Stage and block, both from 0, the block's path, and whether its shortcut has parameters."""
    return [
        (
            stage,
            block,
            ("parts", f"layer{stage + 1}.{block}"),
            not config.cifar and (stride != 1 or inputs != config.widths[stage]),
        )
        for stage, block, inputs, stride in _resnet_blocks(config)
    ]


_STEM: Path = ("parts", "stem", "first")


def _layers(config: ResNetConfig) -> tuple[str, ...]:
    return ("first", "second", "third") if config.bottleneck else ("first", "second")


def _head(config: ResNetConfig, key: str) -> list[Entry]:
    return linear_entries(key, ("head",)) if config.classes else []


def _transformers_resnet(config: ResNetConfig) -> list[Entry]:
    def unit(key: str, path: Path) -> list[Entry]:
        return conv_norm_entries(f"{key}.convolution", f"{key}.normalization", path)

    entries = unit(f"{config.prefix}embedder.embedder", _STEM) + _head(config, "classifier.1")
    for stage, block, path, projects in _block_paths(config):
        key = f"{config.prefix}encoder.stages.{stage}.layers.{block}"
        for number, layer in enumerate(_layers(config)):
            entries += unit(f"{key}.layer.{number}", (*path, layer))
        entries += unit(f"{key}.shortcut", (*path, "project")) if projects else []
    return entries


def _torchvision_resnet(head: str) -> Callable[[ResNetConfig], list[Entry]]:
    """The names of torchvision, which timm shares, and the CIFAR networks but for their head."""

    def entries(config: ResNetConfig) -> list[Entry]:
        result = conv_norm_entries("conv1", "bn1", _STEM) + _head(config, head)
        for stage, block, path, projects in _block_paths(config):
            key = f"layer{stage + 1}.{block}"
            for number, layer in enumerate(_layers(config), 1):
                result += conv_norm_entries(f"{key}.conv{number}", f"{key}.bn{number}", (*path, layer))
            result += (
                conv_norm_entries(f"{key}.downsample.0", f"{key}.downsample.1", (*path, "project")) if projects else []
            )
        return result

    return entries
