"""A checkpoint folder as the Hugging Face hub has them: `config.json`, `preprocessor_config.json`, weights as safetensors."""

import hashlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from cimm_jax.data.tensor_file import Described
from cimm_jax.errors import InputError
from cimm_jax.files import read_regular
from cimm_jax.networks.backbone import Config
from cimm_jax.networks.hub_preprocess import preprocess_of
from cimm_jax.networks.hub_sentence import DEFINING
from cimm_jax.networks.json_fields import MOST_BYTES, Fields, read_fields
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.timm_names import KNOWN, timm_network
from cimm_jax.networks.weight_files import CONFIG, open_checkpoint

__all__ = ["FAMILIES", "PREPROCESSOR", "TEXT", "definition_checksum", "folder_settings", "hub_config"]

PREPROCESSOR = "preprocessor_config.json"

FAMILIES = {
    "bert": "cimm_jax.networks.hub_sentence:hub_bert",
    "clip": "cimm_jax.networks.hub_transformers:hub_transformer",
    "clip_vision_model": "cimm_jax.networks.hub_transformers:hub_transformer",
    "convnext": "cimm_jax.networks.convnext:hub_convnext",
    "deit": "cimm_jax.networks.hub_transformers:hub_transformer",
    "dinov2": "cimm_jax.networks.hub_transformers:hub_transformer",
    "efficientnet": "cimm_jax.networks.efficientnet_b:hub_efficientnet",
    "resnet": "cimm_jax.networks.resnet:hub_resnet",
    "vit": "cimm_jax.networks.hub_transformers:hub_transformer",
}
"""By `model_type` of the transformers library, what makes a configuration of (config.json, tensors, preprocessing).

Of `TEXT`, in the place of preprocessing, the folder."""

TEXT = ("bert",)

_CURE = "give a folder as the Hugging Face hub has them"


def hub_config(folder: Path, weights: Path) -> Config:
    """The configuration of the network in a folder, of these weights, which are looked at and not loaded.

    Whether there is a head, and how keys begin, is as the weights have it.

    Args:
      folder: with config.json.
      weights: of such a network, mostly the folder's own (`weight_files.weights_of`).

    Raises:
      InputError: if a file is missing or damaged, or says something that there is not here; with the known architectures for
        another one.
    """
    fields = read_fields(folder / CONFIG, cure=_CURE)
    with open_checkpoint(weights) as file:
        tensors: Mapping[str, Described] = dict(file.tensors)
    if "model_type" not in fields and "architecture" in fields:
        return timm_network(fields, tensors)
    family = fields.raw("model_type")
    if not isinstance(family, str) or family not in FAMILIES:
        raise InputError(
            f"model: {fields.where} is of the architecture {str(family)[:100]!r}, which is unknown; known are "
            f"{', '.join(FAMILIES)}, and of timm {', '.join(KNOWN)}"
        )
    if family in TEXT:
        return _maker(family)(fields, tensors, folder)
    if fields.count("num_channels", 3) != 3:
        raise fields.unfit("num_channels", "3")
    return _maker(family)(fields, tensors, _preprocess(folder, family))


def folder_settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json and preprocessor_config.json as they are, the latter empty if there is none; raises as `read_fields`."""
    has_preprocessor = (folder / PREPROCESSOR).exists()
    preprocessor = read_fields(folder / PREPROCESSOR, cure=_CURE).content if has_preprocessor else {}
    return read_fields(folder / CONFIG, cure=_CURE).content, preprocessor


def definition_checksum(folder: Path) -> str:
    """SHA-256 of the lines "file checksum" of the files that say what the network is, but for its weights."""
    lines = []
    for name in (CONFIG, PREPROCESSOR, *DEFINING):
        if (folder / name).exists():
            content = read_regular(folder / name, "model", most=MOST_BYTES, cure=_CURE)
            lines.append(f"{name} {hashlib.sha256(content).hexdigest()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _maker(family: str) -> Callable[[Fields, Mapping[str, Described], Preprocess | Path], Config]:
    module, _, name = FAMILIES[family].partition(":")
    made: Any = import_module(module)
    return getattr(made, name)


def _preprocess(folder: Path, family: str) -> Preprocess:
    cure = "it says what images go through first: copy it from the publisher"
    return preprocess_of(read_fields(folder / PREPROCESSOR, cure=cure), family)
