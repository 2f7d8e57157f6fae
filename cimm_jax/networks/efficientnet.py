"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, 2019) without squeeze-and-excitation, with ReLU6 for swish.

The published weights were trained in TensorFlow and carried over to PyTorch as they were, so padding is TensorFlow's:
with stride 2 the odd row and column are padded at the end alone.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
from flax import nnx

from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.convolution import SAME
from cimm_jax.networks.key_maps import Entry, KeyMap, Path, conv_norm_entries, linear_entries
from cimm_jax.networks.layers import ConvNorm, DepthwiseNorm, GlobalMean, NormSettings
from cimm_jax.networks.preprocess import Preprocess

__all__ = ["EFFICIENTNET_LITE0", "NORM", "Activated", "EfficientNetConfig", "InvertedResidual", "Stage"]

NORM = NormSettings(epsilon=1e-3, momentum=0.99)


class Stage(NamedTuple):
    """Blocks alike but for the stride, which only the first has.

    Attributes:
      blocks: how many.
      kernel: height and width of the depthwise convolution.
      stride: of the first block's depthwise convolution.
      expand: how many times its inputs a block is wide inside; 1 leaves the expansion out.
      outputs: channels that leave each block.
    """

    blocks: int
    kernel: int
    stride: int
    expand: int
    outputs: int


@dataclass(frozen=True)
class EfficientNetConfig:
    """An EfficientNet-Lite. Cut points: stem, block0, block1, ... , top, pool, features.

    Attributes:
      stages: the blocks, numbered through all stages.
      stem: channels that enter them.
      top: channels of the last 1x1 convolution, which is the number of features.
      classes: outputs of the head.
      preprocess: what images go through first.
      names: key map for exports.
    """

    stages: tuple[Stage, ...] = (
        Stage(1, 3, 1, 1, 16),
        Stage(2, 3, 2, 6, 24),
        Stage(2, 5, 2, 6, 40),
        Stage(3, 3, 2, 6, 80),
        Stage(3, 5, 1, 6, 112),
        Stage(4, 5, 2, 6, 192),
        Stage(1, 3, 1, 6, 320),
    )
    stem: int = 32
    top: int = 1280
    classes: int = 1000
    preprocess: Preprocess = field(default=Preprocess(224, (127.0,) * 3, (128.0,) * 3))
    names: str = "efficientnet_lite_pytorch"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """Names of each publisher of such networks."""
        return (KeyMap("efficientnet_lite_pytorch", _efficientnet),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Images of any size."""
        return (None, None, 3)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters (normal initialisation over outputs)."""
        parts: dict[str, nnx.Module] = {"stem": Activated(3, self.stem, 3, stride=2, rngs=rngs)}
        inputs = self.stem
        for stage in self.stages:
            for block in range(stage.blocks):
                stride = stage.stride if block == 0 else 1
                parts[f"block{len(parts) - 1}"] = InvertedResidual(inputs, stage, stride, rngs=rngs)
                inputs = stage.outputs
        parts["top"] = Activated(inputs, self.top, 1, rngs=rngs)
        parts["pool"] = GlobalMean()
        return Backbone(self, parts, nnx.Linear(self.top, self.classes, rngs=rngs))


EFFICIENTNET_LITE0 = EfficientNetConfig()


class Activated(nnx.Module):
    """A convolution, batch normalisation and ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, rngs: nnx.Rngs, stride: int = 1):
        self.inner = ConvNorm(inputs, outputs, kernel, stride=stride, padding=SAME, norm=NORM, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, ceil(height / stride), ceil(width / stride), outputs)."""
        return jax.nn.relu6(self.inner(x, training))


class InvertedResidual(nnx.Module):
    """Widen, filter each channel by itself, narrow; added to its input where the shapes agree."""

    def __init__(self, inputs: int, stage: Stage, stride: int, *, rngs: nnx.Rngs):
        inner = inputs * stage.expand
        self.adds = stride == 1 and inputs == stage.outputs
        self.expand = nnx.data(Activated(inputs, inner, 1, rngs=rngs) if stage.expand != 1 else None)
        self.depthwise = DepthwiseNorm(inner, stage.kernel, stride=stride, norm=NORM, rngs=rngs)
        self.project = ConvNorm(inner, stage.outputs, 1, norm=NORM, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, inputs) -> (N, ceil(height / stride), ceil(width / stride), outputs)."""
        y = x if self.expand is None else self.expand(x, training)
        y = self.project(jax.nn.relu6(self.depthwise(y, training)), training)
        return x + y if self.adds else y


def _efficientnet(config: EfficientNetConfig) -> list[Entry]:
    def unit(prefix: str, conv: str, norm: int, path: Path) -> list[Entry]:
        return conv_norm_entries(f"{prefix}_{conv}", f"{prefix}_bn{norm}", path)

    entries = unit("", "conv_stem", 0, ("parts", "stem", "inner")) + unit("", "conv_head", 1, ("parts", "top", "inner"))
    expand = [stage.expand for stage in config.stages for _ in range(stage.blocks)]
    for block, ratio in enumerate(expand):
        prefix, path = f"_blocks.{block}.", ("parts", f"block{block}")
        entries += unit(prefix, "expand_conv", 0, (*path, "expand", "inner")) if ratio != 1 else []
        entries += unit(prefix, "depthwise_conv", 1, (*path, "depthwise"))
        entries += unit(prefix, "project_conv", 2, (*path, "project"))
    return entries + linear_entries("_fc", ("head",))
