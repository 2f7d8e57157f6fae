"""Vision transformers of the transformers library: ViT, DeiT, DINOv2 and CLIP's image tower, by their configurations.

What the families differ in:

    family  tokens before the patches  besides                        features
    vit     class                                                     the class token
    deit    class, distillation                                       the class token, or both
    dinov2  class                      positions resized, and what    the class token, or it and the mean of the patches
                                       is added scaled by channel
    clip    class                      normalised before the blocks   the class token

With two heads, DeiT's logits are their mean. A classifier of DINOv2 looks at the class token and the mean of the patches.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from flax import nnx

from cimm_jax.data.tensor_file import Described
from cimm_jax.errors import InputError
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.json_fields import MOST_LAYERS, Fields
from cimm_jax.networks.key_maps import (
    HALF_OF_BIAS,
    LINEAR,
    PLAIN,
    Entry,
    KeyMap,
    Layout,
    Path,
    bias_entries,
    conv_entries,
    half_of_kernel,
    layer_norm_entries,
    linear_entries,
)
from cimm_jax.networks.layers import ACTIVATIONS
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.tensor_names import outputs_of, prefix_of
from cimm_jax.networks.transformer import INIT, Block, BlockSettings, Embed, EmbedSettings, LastNorm, Readout

__all__ = ["HubTransformerConfig", "hub_transformer"]

_MODEL = {"vit": "vit.", "deit": "deit.", "dinov2": "dinov2.", "clip": "vision_model."}
"""How keys begin, unless a tower was saved by itself."""

_OTHERS = {
    "vit": ("pooler.", "embeddings.mask_token"),
    "deit": ("pooler.", "embeddings.mask_token"),
    "dinov2": ("embeddings.mask_token",),
    "clip": ("embeddings.position_ids",),
}
"""Behind the prefix, keys of what is not needed: ViT's pooler, and tokens for patches that are hidden in pretraining."""

_OF_CLIP = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")
_SCALES = ("layer_scale1", "layer_scale2")


@dataclass(frozen=True)
class HubTransformerConfig:
    """A vision transformer. Cut points: embed, block0, block1, ... , norm, features.

    Attributes:
      family: "vit", "deit", "dinov2" or "clip".
      embed: its beginning.
      block: its blocks.
      depth: how many there are.
      readout: which tokens become features.
      classes: outputs of the head; 0 if there is none.
      prefix: how keys begin.
      preprocess: what images go through first.
      names: key map for exports.
    """

    family: str
    embed: EmbedSettings
    block: BlockSettings
    depth: int
    readout: Readout
    classes: int
    prefix: str
    preprocess: Preprocess
    names: str = "transformers"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """The names of the transformers library."""
        others = tuple(f"{self.prefix}{key}" for key in _OTHERS[self.family])
        return (KeyMap("transformers", _entries, others=(*others, *(_OF_CLIP if self.family == "clip" else ()))),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Images of the one size that there are positions for, resized or not."""
        return (self.embed.image, self.embed.image, 3)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters (truncated normal, deviation 0.02)."""
        parts: dict[str, nnx.Module] = {"embed": Embed(self.embed, rngs=rngs)}
        for number in range(self.depth):
            parts[f"block{number}"] = Block(self.block, rngs=rngs)
        width = self.embed.width
        parts["norm"] = LastNorm(width, self.block.epsilon, self.readout, rngs=rngs)
        features = width if self.readout == "class" else 2 * width
        return Backbone(self, parts, nnx.Linear(features, self.classes, kernel_init=INIT, rngs=rngs))


def hub_transformer(fields: Fields, tensors: Mapping[str, Described], preprocess: Preprocess) -> HubTransformerConfig:
    """The configuration of a checkpoint.

    Args:
      fields: of config.json.
      tensors: what the weights hold.
      preprocess: what images go through first.

    Raises:
      InputError: if a field is missing or means something that there is not here, or images have another size than positions.
    """
    family = str(fields.raw("model_type")).removesuffix("_vision_model")
    if family == "clip" and "vision_config" in fields:
        fields = fields.inner("vision_config")
    if fields.flag("use_swiglu_ffn", False):
        raise fields.unfit("use_swiglu_ffn", "false: DINOv2's giant is not read")
    width, patch = (
        fields.count("hidden_size", 768),
        fields.side("patch_size", {"dinov2": 14, "clip": 32}.get(family, 16)),
    )
    epsilon = fields.number("layer_norm_eps", {"dinov2": 1e-6, "clip": 1e-5}.get(family, 1e-12))
    image = fields.side("image_size", 224)
    heads = fields.count("num_attention_heads", 12)
    if width % heads:
        raise fields.unfit("num_attention_heads", f"a divisor of hidden_size, {width}")
    if family != "dinov2" and image != preprocess.size:
        raise InputError(
            f"model: {fields.where} takes images of {image} pixels, and preprocessor_config.json makes {preprocess.size}; make "
            "them the same"
        )
    if preprocess.size < patch:
        raise fields.unfit("patch_size", f"at most {preprocess.size}, the images' size")
    hidden = (
        fields.count("mlp_ratio", 4) * width if family == "dinov2" else fields.count("intermediate_size", 4 * width)
    )
    prefix = prefix_of(tensors, f"embeddings.{_class_token(family)}", (_MODEL[family], ""))
    default = "quick_gelu" if family == "clip" else "gelu"
    return HubTransformerConfig(
        family=family,
        embed=EmbedSettings(
            preprocess.size,
            patch,
            width,
            image // patch,
            distilled=family == "deit",
            patch_bias=family != "clip",
            norm_epsilon=epsilon if family == "clip" else None,
        ),
        block=BlockSettings(
            width,
            heads,
            hidden,
            epsilon,
            activation=fields.word("hidden_act", tuple(ACTIVATIONS), default),
            query_bias=fields.flag("qkv_bias", True),
            layer_scale=family == "dinov2",
        ),
        depth=fields.count("num_hidden_layers", 12, most=MOST_LAYERS),
        readout=_readout(family, tensors),
        classes=outputs_of(tensors, ("classifier.weight", "cls_classifier.weight")),
        prefix=prefix,
        preprocess=preprocess,
    )


def _class_token(family: str) -> str:
    return "class_embedding" if family == "clip" else "cls_token"


def _readout(family: str, tensors: Mapping[str, Described]) -> Readout:
    if family == "dinov2" and "classifier.weight" in tensors:
        return "class and mean"
    return "two tokens" if "cls_classifier.weight" in tensors else "class"


_EMBED: Path = ("parts", "embed")


def _entries(config: HubTransformerConfig) -> list[Entry]:
    block = _clip_block if config.family == "clip" else _block
    entries = _embed_entries(config) + _head_entries(config)
    last = "post_layernorm" if config.family == "clip" else "layernorm"
    entries += layer_norm_entries(f"{config.prefix}{last}", ("parts", "norm", "norm"))
    for number in range(config.depth):
        entries += block(config, number, ("parts", f"block{number}"))
    return entries


def _embed_entries(config: HubTransformerConfig) -> list[Entry]:
    key, token = f"{config.prefix}embeddings", (*_EMBED, "class_token")
    position = (*_EMBED, "position")
    if config.family == "clip":
        return [
            Entry(f"{key}.class_embedding", (token,), Layout(None, None, 2)),
            Entry(f"{key}.position_embedding.weight", (position,), Layout(None, None, 1)),
            *conv_entries(f"{key}.patch_embedding", (*_EMBED, "patches")),
            *layer_norm_entries(f"{config.prefix}pre_layrnorm", (*_EMBED, "norm")),  # as its publisher spells it
        ]
    projection = f"{key}.patch_embeddings.projection"
    found = [Entry(f"{key}.cls_token", (token,), PLAIN), Entry(f"{key}.position_embeddings", (position,), PLAIN)]
    found += conv_entries(projection, (*_EMBED, "patches")) + bias_entries(projection, (*_EMBED, "patches"))
    if config.embed.distilled:
        found.append(Entry(f"{key}.distillation_token", ((*_EMBED, "distillation_token"),), PLAIN))
    return found


def _head_entries(config: HubTransformerConfig) -> list[Entry]:
    if not config.classes:
        return []
    if config.readout != "two tokens":
        return linear_entries("classifier", ("head",))
    found = []
    for number, name in enumerate(("cls_classifier", "distillation_classifier")):
        half = half_of_kernel(number * config.embed.width, config.embed.width)
        found.append(Entry(f"{name}.weight", (("head", "kernel"),), LINEAR, half))
        found.append(Entry(f"{name}.bias", (("head", "bias"),), PLAIN, HALF_OF_BIAS))
    return found


def _block(config: HubTransformerConfig, number: int, path: Path) -> list[Entry]:
    key, is_dino = f"{config.prefix}encoder.layer.{number}", config.family == "dinov2"
    entries = []
    for name in ("query", "key", "value"):
        entries += _query_entries(config, f"{key}.attention.attention.{name}", (*path, name))
    entries += linear_entries(f"{key}.attention.output.dense", (*path, "out"))
    norms = ("norm1", "norm2") if is_dino else ("layernorm_before", "layernorm_after")
    layers = ("mlp.fc1", "mlp.fc2") if is_dino else ("intermediate.dense", "output.dense")
    for theirs, ours in zip(norms, ("norm1", "norm2"), strict=True):
        entries += layer_norm_entries(f"{key}.{theirs}", (*path, ours))
    for theirs, ours in zip(layers, ("up", "down"), strict=True):
        entries += linear_entries(f"{key}.{theirs}", (*path, ours))
    if is_dino:
        entries += [
            Entry(f"{key}.{theirs}.lambda1", ((*path, ours),), PLAIN)
            for theirs, ours in zip(_SCALES, ("scale1", "scale2"), strict=True)
        ]
    return entries


def _clip_block(config: HubTransformerConfig, number: int, path: Path) -> list[Entry]:
    key, entries = f"{config.prefix}encoder.layers.{number}", []
    for theirs, ours in {"q_proj": "query", "k_proj": "key", "v_proj": "value"}.items():
        entries += _query_entries(config, f"{key}.self_attn.{theirs}", (*path, ours))
    for theirs, ours in {"self_attn.out_proj": "out", "mlp.fc1": "up", "mlp.fc2": "down"}.items():
        entries += linear_entries(f"{key}.{theirs}", (*path, ours))
    for theirs, ours in {"layer_norm1": "norm1", "layer_norm2": "norm2"}.items():
        entries += layer_norm_entries(f"{key}.{theirs}", (*path, ours))
    return entries


def _query_entries(config: HubTransformerConfig, key: str, path: Path) -> list[Entry]:
    entries = linear_entries(key, path)
    return entries if config.block.query_bias else entries[:1]
