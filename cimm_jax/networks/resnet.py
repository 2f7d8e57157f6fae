"""ResNets of basic blocks (He et al., 2015): the ImageNet networks, and the smaller ones for CIFAR of its section 4.2."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.key_maps import Entry, KeyMap, Path, conv_norm_entries, linear_entries
from cimm_jax.networks.layers import ConvNorm, GlobalMean, NormSettings
from cimm_jax.networks.preprocess import Preprocess

__all__ = [
    "CIFAR",
    "IMAGENET",
    "NORM",
    "RESNET18",
    "RESNET20_CIFAR10",
    "RESNET34",
    "RESNET56_CIFAR10",
    "BasicBlock",
    "ResNetConfig",
    "Stem",
]

NORM = NormSettings(epsilon=1e-5, momentum=0.9)
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Preprocess.of_unit_pixels(224, _MEAN, _DEVIATION)
CIFAR = Preprocess.of_unit_pixels(32, _MEAN, _DEVIATION)


@dataclass(frozen=True)
class ResNetConfig:
    """A ResNet. Cut points: stem, layer1.0, layer1.1, ... , pool, features.

    Attributes:
      blocks: blocks of each stage; every stage but the first halves height and width.
      widths: channels of each stage; the last is the number of features.
      classes: outputs of the head.
      cifar: a 3x3 stem that keeps the size, and shortcuts without parameters (option A); otherwise a 7x7 stem and a
        max-pooling that quarter the size, and 1x1 convolutions for shortcuts (option B).
      preprocess: what images go through first.
      names: key map for exports.
    """

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    classes: int
    cifar: bool = False
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
        parts: dict[str, nnx.Module] = {"stem": Stem(self.widths[0], cifar=self.cifar, rngs=rngs)}
        inputs = self.widths[0]
        for stage, (blocks, width) in enumerate(zip(self.blocks, self.widths, strict=True)):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                parts[f"layer{stage + 1}.{block}"] = BasicBlock(inputs, width, stride, cifar=self.cifar, rngs=rngs)
                inputs = width
        parts["pool"] = GlobalMean()
        return Backbone(self, parts, nnx.Linear(inputs, self.classes, rngs=rngs))


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
        self.project = nnx.data(ConvNorm(inputs, outputs, 1, stride=stride, norm=NORM, rngs=rngs) if reshapes else None)

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


def _resnet_blocks(config: ResNetConfig) -> Sequence[tuple[int, int, Path, bool]]:
    """Stage and block, both from 0, the block's path, and whether its shortcut has parameters."""
    found, inputs = [], config.widths[0]
    for stage, (blocks, width) in enumerate(zip(config.blocks, config.widths, strict=True)):
        for block in range(blocks):
            reshapes = block == 0 and (stage > 0 or inputs != width)
            found.append((stage, block, ("parts", f"layer{stage + 1}.{block}"), reshapes and not config.cifar))
            inputs = width
    return found


_STEM: Path = ("parts", "stem", "first")


def _transformers_resnet(config: ResNetConfig) -> list[Entry]:
    def unit(key: str, path: Path) -> list[Entry]:
        return conv_norm_entries(f"{key}.convolution", f"{key}.normalization", path)

    entries = unit("resnet.embedder.embedder", _STEM) + linear_entries("classifier.1", ("head",))
    for stage, block, path, projects in _resnet_blocks(config):
        key = f"resnet.encoder.stages.{stage}.layers.{block}"
        entries += unit(f"{key}.layer.0", (*path, "first")) + unit(f"{key}.layer.1", (*path, "second"))
        entries += unit(f"{key}.shortcut", (*path, "project")) if projects else []
    return entries


def _torchvision_resnet(head: str) -> Callable[[ResNetConfig], list[Entry]]:
    """The names of torchvision, which timm shares, and the CIFAR networks but for their head."""

    def entries(config: ResNetConfig) -> list[Entry]:
        result = conv_norm_entries("conv1", "bn1", _STEM) + linear_entries(head, ("head",))
        for stage, block, path, projects in _resnet_blocks(config):
            key = f"layer{stage + 1}.{block}"
            result += conv_norm_entries(f"{key}.conv1", f"{key}.bn1", (*path, "first"))
            result += conv_norm_entries(f"{key}.conv2", f"{key}.bn2", (*path, "second"))
            result += (
                conv_norm_entries(f"{key}.downsample.0", f"{key}.downsample.1", (*path, "project")) if projects else []
            )
        return result

    return entries
