"""What each publisher calls the tensors of a network, and how it lays them out.

A key map lists every tensor of a file once: its key, the paths of the model's arrays that it is made of, and its layout.
It is read forwards by `load_weights` and backwards by `export_weights`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from cimm_jax.models.backbone import Config
from cimm_jax.models.efficientnet import EfficientNetConfig
from cimm_jax.models.linear import LinearConfig
from cimm_jax.models.resnet import ResNetConfig
from cimm_jax.models.vit import VitConfig

Path: TypeAlias = tuple[str, ...]
"""Where an array is in the model's flat state, such as ("parts", "stem", "first", "conv", "kernel")."""


class Layout(NamedTuple):
    """The order of axes in a file and in the model.

    Attributes:
      to_model: axes of the file's tensor in the model's order.
      to_file: the inverse permutation.
    """

    to_model: tuple[int, ...] | None
    to_file: tuple[int, ...] | None

    def read(self, array: np.ndarray) -> np.ndarray:
        """The file's tensor as the model wants it."""
        return array if self.to_model is None else array.transpose(self.to_model)

    def write(self, array: np.ndarray) -> np.ndarray:
        """The model's array as the file wants it."""
        return array if self.to_file is None else array.transpose(self.to_file)


PLAIN = Layout(None, None)
LINEAR = Layout((1, 0), (1, 0))  # (outputs, inputs) <-> (inputs, outputs)
CONV = Layout((2, 3, 1, 0), (3, 2, 0, 1))  # OIHW <-> HWIO


class Entry(NamedTuple):
    """One tensor of a file.

    Attributes:
      key: its name.
      paths: the model's arrays that lie one after the other along its first axis; mostly one.
      layout: of each.
    """

    key: str
    paths: tuple[Path, ...]
    layout: Layout


@dataclass(frozen=True)
class KeyMap:
    """One publisher's names for one architecture.

    Attributes:
      name: what `Config.names` calls it.
      entries: every tensor of a network of the given configuration.
      settings: fields of the configuration that this publisher's networks have otherwise than the default.
    """

    name: str
    entries: Callable[[Any], list[Entry]]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def _conv(key: str, path: Path) -> list[Entry]:
    return [Entry(f"{key}.weight", ((*path, "kernel"),), CONV)]


def _bias(key: str, *paths: Path) -> list[Entry]:
    return [Entry(f"{key}.bias", tuple((*path, "bias") for path in paths), PLAIN)]


def _linear(key: str, *paths: Path) -> list[Entry]:
    """A linear layer with bias, or several that are stored as one."""
    return [Entry(f"{key}.weight", tuple((*path, "kernel") for path in paths), LINEAR), *_bias(key, *paths)]


def _layer_norm(key: str, path: Path) -> list[Entry]:
    return [Entry(f"{key}.weight", ((*path, "scale"),), PLAIN), *_bias(key, path)]


def _batch_norm(key: str, path: Path) -> list[Entry]:
    statistics = (("running_mean", "mean"), ("running_var", "var"))
    return _layer_norm(key, path) + [Entry(f"{key}.{theirs}", ((*path, ours),), PLAIN) for theirs, ours in statistics]


def _conv_norm(conv: str, norm: str, path: Path) -> list[Entry]:
    return _conv(conv, (*path, "conv")) + _batch_norm(norm, (*path, "norm"))


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
        return _conv_norm(f"{key}.convolution", f"{key}.normalization", path)

    entries = unit("resnet.embedder.embedder", _STEM) + _linear("classifier.1", ("head",))
    for stage, block, path, projects in _resnet_blocks(config):
        key = f"resnet.encoder.stages.{stage}.layers.{block}"
        entries += unit(f"{key}.layer.0", (*path, "first")) + unit(f"{key}.layer.1", (*path, "second"))
        entries += unit(f"{key}.shortcut", (*path, "project")) if projects else []
    return entries


def _torchvision_resnet(head: str) -> Callable[[ResNetConfig], list[Entry]]:
    """The names of torchvision, which timm shares, and the CIFAR networks but for their head."""

    def entries(config: ResNetConfig) -> list[Entry]:
        result = _conv_norm("conv1", "bn1", _STEM) + _linear(head, ("head",))
        for stage, block, path, projects in _resnet_blocks(config):
            key = f"layer{stage + 1}.{block}"
            result += _conv_norm(f"{key}.conv1", f"{key}.bn1", (*path, "first"))
            result += _conv_norm(f"{key}.conv2", f"{key}.bn2", (*path, "second"))
            result += _conv_norm(f"{key}.downsample.0", f"{key}.downsample.1", (*path, "project")) if projects else []
        return result

    return entries


_EMBED: Path = ("parts", "embed")


def _vit_embed(class_token: str, position: str, patches: str) -> list[Entry]:
    return [
        Entry(class_token, ((*_EMBED, "class_token"),), PLAIN),
        Entry(position, ((*_EMBED, "position"),), PLAIN),
        *_conv(patches, (*_EMBED, "patches")),
        *_bias(patches, (*_EMBED, "patches")),
    ]


def _transformers_vit(config: VitConfig) -> list[Entry]:
    embed = "vit.embeddings"
    entries = _vit_embed(f"{embed}.cls_token", f"{embed}.position_embeddings", f"{embed}.patch_embeddings.projection")
    entries += _layer_norm("vit.layernorm", ("parts", "norm", "norm")) + _linear("classifier", ("head",))
    for block in range(config.depth):
        key, path = f"vit.encoder.layer.{block}", ("parts", f"block{block}")
        for name in ("query", "key", "value"):
            entries += _linear(f"{key}.attention.attention.{name}", (*path, name))
        entries += _linear(f"{key}.attention.output.dense", (*path, "out"))
        entries += _layer_norm(f"{key}.layernorm_before", (*path, "norm1"))
        entries += _layer_norm(f"{key}.layernorm_after", (*path, "norm2"))
        entries += _linear(f"{key}.intermediate.dense", (*path, "up")) + _linear(f"{key}.output.dense", (*path, "down"))
    return entries


def _timm_vit(config: VitConfig) -> list[Entry]:
    entries = _vit_embed("cls_token", "pos_embed", "patch_embed.proj")
    entries += _layer_norm("norm", ("parts", "norm", "norm")) + _linear("head", ("head",))
    for block in range(config.depth):
        key, path = f"blocks.{block}", ("parts", f"block{block}")
        entries += _linear(f"{key}.attn.qkv", *((*path, name) for name in ("query", "key", "value")))
        entries += _linear(f"{key}.attn.proj", (*path, "out"))
        entries += _layer_norm(f"{key}.norm1", (*path, "norm1")) + _layer_norm(f"{key}.norm2", (*path, "norm2"))
        entries += _linear(f"{key}.mlp.fc1", (*path, "up")) + _linear(f"{key}.mlp.fc2", (*path, "down"))
    return entries


def _efficientnet(config: EfficientNetConfig) -> list[Entry]:
    def unit(prefix: str, conv: str, norm: int, path: Path) -> list[Entry]:
        return _conv_norm(f"{prefix}_{conv}", f"{prefix}_bn{norm}", path)

    entries = unit("", "conv_stem", 0, ("parts", "stem", "inner")) + unit("", "conv_head", 1, ("parts", "top", "inner"))
    expand = [stage.expand for stage in config.stages for _ in range(stage.blocks)]
    for block, ratio in enumerate(expand):
        prefix, path = f"_blocks.{block}.", ("parts", f"block{block}")
        entries += unit(prefix, "expand_conv", 0, (*path, "expand", "inner")) if ratio != 1 else []
        entries += unit(prefix, "depthwise_conv", 1, (*path, "depthwise"))
        entries += unit(prefix, "project_conv", 2, (*path, "project"))
    return entries + _linear("_fc", ("head",))


def _linear_extractor(config: LinearConfig) -> list[Entry]:
    del config
    theta = Entry("extractor.weight", (("parts", "linear", "theta", "kernel"),), LINEAR)
    return [theta, *_linear("head", ("head",))]


_MAPS: dict[type, tuple[KeyMap, ...]] = {
    ResNetConfig: (
        KeyMap("transformers", _transformers_resnet),
        KeyMap("timm", _torchvision_resnet("fc")),
        KeyMap("cifar", _torchvision_resnet("linear")),
    ),
    VitConfig: (
        KeyMap("transformers", _transformers_vit, MappingProxyType({"norm_epsilon": 1e-12})),
        KeyMap("timm", _timm_vit, MappingProxyType({"norm_epsilon": 1e-6})),
    ),
    EfficientNetConfig: (KeyMap("efficientnet_lite_pytorch", _efficientnet),),
    LinearConfig: (KeyMap("torch", _linear_extractor),),
}


def key_maps(config: Config) -> tuple[KeyMap, ...]:
    """Every key map of the architecture."""
    return _MAPS[cast(type, type(config))]
