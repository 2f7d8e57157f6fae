"""What model hubs read beside the weights: config.json and preprocessor_config.json, in the words of transformers or timm."""

from typing import Any

from cimm_jax.data.image_decoding import CROP_SHARE
from cimm_jax.networks.backbone import Config
from cimm_jax.networks.bert import BertConfig
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.residual import ResidualConfig
from cimm_jax.networks.resnet import ResNetConfig
from cimm_jax.networks.rows import Rows
from cimm_jax.networks.tokens import Tokens
from cimm_jax.networks.vit import VitConfig

__all__ = ["model_config", "preprocessor_config"]

_TIMM = {"vit_b16": "vit_base_patch16_224"}
"""What timm calls a network that is not called the same here."""

_BICUBIC = 3
"""As Pillow and transformers count resampling filters."""


def model_config(config: Config, name: str, features: int) -> dict[str, Any]:
    """config.json: of transformers where the weights have its names and it has the architecture, of timm otherwise.

    Args:
      config: of the network, `config.names` being whose names its weights have.
      name: of the network, where it is no architecture of transformers.
      features: that its head looks at.
    """
    match config:
        case ResNetConfig(names="transformers"):
            return {
                "architectures": ["ResNetForImageClassification"],
                "model_type": "resnet",
                "layer_type": "basic",
                "num_channels": 3,
                "embedding_size": config.widths[0],
                "hidden_sizes": list(config.widths),
                "depths": list(config.blocks),
                "hidden_act": "relu",
                "downsample_in_first_stage": False,
                **_labels(config.classes),
            }
        case VitConfig(names="transformers"):
            return {
                "architectures": ["ViTForImageClassification"],
                "model_type": "vit",
                "num_channels": 3,
                "image_size": config.image,
                "patch_size": config.patch,
                "hidden_size": config.width,
                "num_hidden_layers": config.depth,
                "num_attention_heads": config.heads,
                "intermediate_size": config.hidden,
                "hidden_act": "gelu",
                "layer_norm_eps": config.norm_epsilon,
                "qkv_bias": True,
                **_labels(config.classes),
            }
        case BertConfig():
            return {
                "architectures": ["BertModel"],
                "model_type": "bert",
                "vocab_size": config.preprocess.vocabulary,
                "max_position_embeddings": config.positions,
                "type_vocab_size": config.kinds,
                "hidden_size": config.block.width,
                "num_hidden_layers": config.depth,
                "num_attention_heads": config.block.heads,
                "intermediate_size": config.block.hidden,
                "hidden_act": config.block.activation,
                "layer_norm_eps": config.block.epsilon,
            }
        case ResidualConfig():
            return {
                "architecture": "residual extractor",
                "num_features": features,
                "hidden_size": config.hidden,
                "num_blocks": config.blocks,
                "num_classes": config.classes,
            }
    preprocess = config.preprocess
    assert not isinstance(preprocess, Rows)  # of extractors alone
    if isinstance(preprocess, Tokens):
        return {"architecture": name, "vocab_size": preprocess.vocabulary, "num_features": features}
    mean, deviation = _of_unit_pixels(preprocess)
    return {
        "architecture": _TIMM.get(name, name),
        "num_classes": config.classes,
        "num_features": features,
        "pretrained_cfg": {
            "input_size": [len(mean), preprocess.size, preprocess.size],
            "interpolation": "bicubic",
            "crop_pct": CROP_SHARE,
            "crop_mode": "center",
            "mean": mean,
            "std": deviation,
            "num_classes": config.classes,
        },
    }


def preprocessor_config(preprocess: Preprocess | Tokens | Rows) -> dict[str, Any]:
    """preprocessor_config.json of transformers: what `data.image_decoding.fitted` and the network's `Preprocess` do.

    Of texts, what is done with the publisher's tokenizer; of rows of features, nothing.
    """
    if isinstance(preprocess, Rows):
        return {}
    if isinstance(preprocess, Tokens):
        return {"model_max_length": preprocess.length, "add_special_tokens": preprocess.special}
    mean, deviation = _of_unit_pixels(preprocess)
    return {
        "image_processor_type": "ConvNextImageProcessor",  # resizes the short side and cuts the centre out, as we do
        "do_resize": True,
        "size": {"shortest_edge": preprocess.size},
        "crop_pct": CROP_SHARE,
        "resample": _BICUBIC,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": deviation,
    }


def _labels(classes: int) -> dict[str, Any]:
    """Names that transformers gives to classes without any; it counts them by these."""
    names = {str(number): f"LABEL_{number}" for number in range(classes)}
    return {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}


def _of_unit_pixels(preprocess: Preprocess) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels from 0 to 1; without the last digits, which the way to 255 and back has changed."""
    mean, deviation = ([round(value / 255, 12) for value in of] for of in (preprocess.mean, preprocess.deviation))
    return mean, deviation
