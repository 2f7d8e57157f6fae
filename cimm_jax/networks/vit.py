"""Vision transformers (Dosovitskiy et al., 2020): pre-norm blocks on patches and a class token, which ends as the features."""

from dataclasses import dataclass, field, replace
from types import MappingProxyType

from flax import nnx

from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.key_maps import (
    PLAIN,
    Entry,
    KeyMap,
    Path,
    bias_entries,
    conv_entries,
    layer_norm_entries,
    linear_entries,
)
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.transformer import INIT, Block, BlockSettings, Embed, EmbedSettings, LastNorm

__all__ = ["VIT_B16", "VIT_MINI_CIFAR10", "VIT_TINY", "VitConfig"]

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class VitConfig:
    """A vision transformer. Cut points: embed, block0, block1, ... , norm, features.

    Attributes:
      image: height and width of an image.
      patch: height and width of a patch.
      width: length of a token, which is the number of features.
      depth: blocks.
      heads: attention heads.
      hidden: width of the layer between the two of each block's perceptron.
      classes: outputs of the head; 0 if there is none.
      norm_epsilon: of every layer normalisation. 1e-12 is that of the transformers library's checkpoints; loading timm's
        sets its 1e-6.
      preprocess: what images go through first.
      names: key map for exports.
    """

    image: int
    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    classes: int
    norm_epsilon: float = 1e-12
    preprocess: Preprocess = field(default=Preprocess.of_unit_pixels(224, _HALF, _HALF))
    names: str = "transformers"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """Names of each publisher of such networks."""
        return (
            KeyMap("transformers", _transformers_vit, MappingProxyType({"norm_epsilon": 1e-12})),
            KeyMap("timm", _timm_vit, MappingProxyType({"norm_epsilon": 1e-6})),
        )

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Images of the one size that there are positions for."""
        return (self.image, self.image, 3)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters (truncated normal, deviation 0.02)."""
        embed = EmbedSettings(self.image, self.patch, self.width, self.image // self.patch)
        block = BlockSettings(self.width, self.heads, self.hidden, self.norm_epsilon)
        parts: dict[str, nnx.Module] = {"embed": Embed(embed, rngs=rngs)}
        for number in range(self.depth):
            parts[f"block{number}"] = Block(block, rngs=rngs)
        parts["norm"] = LastNorm(self.width, self.norm_epsilon, rngs=rngs)
        return Backbone(self, parts, nnx.Linear(self.width, self.classes, kernel_init=INIT, rngs=rngs))


VIT_B16 = VitConfig(224, 16, width=768, depth=12, heads=12, hidden=3072, classes=1000)
VIT_TINY = VitConfig(
    32,
    4,
    width=192,
    depth=12,
    heads=3,
    hidden=768,
    classes=10,
    preprocess=Preprocess.of_unit_pixels(32, _HALF, _HALF),
)
VIT_MINI_CIFAR10 = replace(VIT_TINY, width=96, depth=6, hidden=192)
"""Small enough to be trained on one processor core; `experiments/pretrain_vit.py` does."""


_EMBED: Path = ("parts", "embed")


def _vit_embed(class_token: str, position: str, patches: str) -> list[Entry]:
    return [
        Entry(class_token, ((*_EMBED, "class_token"),), PLAIN),
        Entry(position, ((*_EMBED, "position"),), PLAIN),
        *conv_entries(patches, (*_EMBED, "patches")),
        *bias_entries(patches, (*_EMBED, "patches")),
    ]


def _head(config: VitConfig, key: str) -> list[Entry]:
    return linear_entries(key, ("head",)) if config.classes else []


def _transformers_vit(config: VitConfig) -> list[Entry]:
    embed = "vit.embeddings"
    entries = _vit_embed(f"{embed}.cls_token", f"{embed}.position_embeddings", f"{embed}.patch_embeddings.projection")
    entries += layer_norm_entries("vit.layernorm", ("parts", "norm", "norm")) + _head(config, "classifier")
    for block in range(config.depth):
        key, path = f"vit.encoder.layer.{block}", ("parts", f"block{block}")
        for name in ("query", "key", "value"):
            entries += linear_entries(f"{key}.attention.attention.{name}", (*path, name))
        entries += linear_entries(f"{key}.attention.output.dense", (*path, "out"))
        entries += layer_norm_entries(f"{key}.layernorm_before", (*path, "norm1"))
        entries += layer_norm_entries(f"{key}.layernorm_after", (*path, "norm2"))
        entries += linear_entries(f"{key}.intermediate.dense", (*path, "up")) + linear_entries(
            f"{key}.output.dense", (*path, "down")
        )
    return entries


def _timm_vit(config: VitConfig) -> list[Entry]:
    entries = _vit_embed("cls_token", "pos_embed", "patch_embed.proj")
    entries += layer_norm_entries("norm", ("parts", "norm", "norm")) + _head(config, "head")
    for block in range(config.depth):
        key, path = f"blocks.{block}", ("parts", f"block{block}")
        entries += linear_entries(f"{key}.attn.qkv", *((*path, name) for name in ("query", "key", "value")))
        entries += linear_entries(f"{key}.attn.proj", (*path, "out"))
        entries += layer_norm_entries(f"{key}.norm1", (*path, "norm1")) + layer_norm_entries(
            f"{key}.norm2", (*path, "norm2")
        )
        entries += linear_entries(f"{key}.mlp.fc1", (*path, "up")) + linear_entries(f"{key}.mlp.fc2", (*path, "down"))
    return entries
