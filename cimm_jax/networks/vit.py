"""Vision transformers (Dosovitskiy et al., 2020): pre-norm blocks on patches and a class token, which ends as the features."""

from dataclasses import dataclass, field, replace
from types import MappingProxyType

import jax
import jax.numpy as jnp
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

__all__ = ["VIT_B16", "VIT_MINI_CIFAR10", "VIT_TINY", "Block", "Embed", "LastNorm", "VitConfig"]

_HALF = (0.5, 0.5, 0.5)
_INIT = nnx.initializers.truncated_normal(0.02)


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
      classes: outputs of the head.
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
        parts: dict[str, nnx.Module] = {"embed": Embed(self, rngs=rngs)}
        for block in range(self.depth):
            parts[f"block{block}"] = Block(self, rngs=rngs)
        parts["norm"] = LastNorm(self, rngs=rngs)
        return Backbone(self, parts, nnx.Linear(self.width, self.classes, kernel_init=_INIT, rngs=rngs))


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


def _dense(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, kernel_init=_INIT, rngs=rngs)


def _norm(config: VitConfig, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance is a difference of squares, which loses digits where the mean is large.
    return nnx.LayerNorm(config.width, epsilon=config.norm_epsilon, use_fast_variance=False, rngs=rngs)


class Embed(nnx.Module):
    """Patches become tokens; the class token goes first; each gets its position's embedding."""

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        patch = (config.patch, config.patch)
        self.patches = nnx.Conv(3, config.width, patch, strides=patch, padding="VALID", kernel_init=_INIT, rngs=rngs)
        tokens = 1 + (config.image // config.patch) ** 2
        self.class_token = nnx.Param(jnp.zeros((1, 1, config.width), jnp.float32))
        self.position = nnx.Param(_INIT(rngs.params(), (1, tokens, config.width), jnp.float32))

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, image, image, 3) -> (N, tokens, width); the same in training."""
        del training
        y = self.patches(x)
        y = y.reshape(len(y), -1, y.shape[-1])
        first = jnp.broadcast_to(self.class_token[...], (len(y), 1, y.shape[-1]))
        return jnp.concatenate([first, y], axis=1) + jnp.broadcast_to(
            self.position[...], (len(y), *self.position.shape[1:])
        )


class Block(nnx.Module):
    """Attention, then a perceptron of two layers, each on normalised tokens and added to what it was given."""

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        width = config.width
        self.heads = config.heads
        self.norm1 = _norm(config, rngs)
        self.query = _dense(width, width, rngs)
        self.key = _dense(width, width, rngs)
        self.value = _dense(width, width, rngs)
        self.out = _dense(width, width, rngs)
        self.norm2 = _norm(config, rngs)
        self.up = _dense(width, config.hidden, rngs)
        self.down = _dense(config.hidden, width, rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, tokens, width) -> the same; the same in training."""
        del training
        x = x + self._attention(self.norm1(x))
        # The originals use the error function; the usual tanh approximation is off by up to 5e-4.
        return x + self.down(jax.nn.gelu(self.up(self.norm2(x)), approximate=False))

    def _attention(self, x: jax.Array) -> jax.Array:
        def by_head(layer: nnx.Linear) -> jax.Array:
            return layer(x).reshape(*x.shape[:2], self.heads, -1)

        query, key, value = map(by_head, (self.query, self.key, self.value))  # (N, tokens, heads, length)
        scores = jnp.einsum("nqhd,nkhd->nhqk", query, key) / query.shape[-1] ** 0.5
        mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), value)
        return self.out(mixed.reshape(x.shape))


class LastNorm(nnx.Module):
    """The class token, normalised."""

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        self.norm = _norm(config, rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, tokens, width) -> (N, width); the same in training."""
        del training
        return self.norm(x[:, 0])


_EMBED: Path = ("parts", "embed")


def _vit_embed(class_token: str, position: str, patches: str) -> list[Entry]:
    return [
        Entry(class_token, ((*_EMBED, "class_token"),), PLAIN),
        Entry(position, ((*_EMBED, "position"),), PLAIN),
        *conv_entries(patches, (*_EMBED, "patches")),
        *bias_entries(patches, (*_EMBED, "patches")),
    ]


def _transformers_vit(config: VitConfig) -> list[Entry]:
    embed = "vit.embeddings"
    entries = _vit_embed(f"{embed}.cls_token", f"{embed}.position_embeddings", f"{embed}.patch_embeddings.projection")
    entries += layer_norm_entries("vit.layernorm", ("parts", "norm", "norm")) + linear_entries("classifier", ("head",))
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
    entries += layer_norm_entries("norm", ("parts", "norm", "norm")) + linear_entries("head", ("head",))
    for block in range(config.depth):
        key, path = f"blocks.{block}", ("parts", f"block{block}")
        entries += linear_entries(f"{key}.attn.qkv", *((*path, name) for name in ("query", "key", "value")))
        entries += linear_entries(f"{key}.attn.proj", (*path, "out"))
        entries += layer_norm_entries(f"{key}.norm1", (*path, "norm1")) + layer_norm_entries(
            f"{key}.norm2", (*path, "norm2")
        )
        entries += linear_entries(f"{key}.mlp.fc1", (*path, "up")) + linear_entries(f"{key}.mlp.fc2", (*path, "down"))
    return entries
