"""What somebody downloads, as one file: the publisher's names, the map as one more, and in the header how it was made.

Features times the map go into the head, which has absorbed it: the layer `MAP_KEY`, in PyTorch's layout, goes in front of the
publisher's head, and everything else is as the publisher has it.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cimm_jax.data.tensor_file import MOST_WEIGHTS_BYTES, open_tensors, tensors_to_bytes
from cimm_jax.errors import InputError
from cimm_jax.files import write_whole
from cimm_jax.runs.manifest import versions
from cimm_jax.runs.published import Published
from cimm_jax.runs.source import NetworkSource, Source

if TYPE_CHECKING:
    from cimm_jax.networks.backbone import Config
    from cimm_jax.runs.defence import Defence
    from cimm_jax.runs.subject import Subject

__all__ = [
    "HEAD_FILE",
    "LAYOUT",
    "MAP_KEY",
    "MODEL_FILE",
    "NAME",
    "Told",
    "map_metadata",
    "read_told",
    "write_published",
]

MODEL_FILE = "model.safetensors"
"""As model hubs call it."""

HEAD_FILE = "head.safetensors"
"""In a run folder: the head that was fitted for a network without one, as `networks.head.read_head` reads it."""

MAP_KEY = "immunization.weight"
"""The map as `torch.nn.Linear` has it, (outputs, inputs): the transpose of theta."""

LAYOUT = f"as PyTorch: linear (outputs, inputs), convolutions (outputs, inputs, height, width); the head takes x @ {MAP_KEY}.T"
"""Said in the header."""

NAME = re.compile(r"[\w.-]+", re.ASCII)
"""Of a head: what a model card can print as it is."""

_CURE = "immunize again"


class Told(NamedTuple):
    """What the header of a published file says.

    Attributes:
      method: that made it.
      head: what the publisher calls the head; empty if it has none.
      base_sha256: checksum of the file with the weights that it was made from.
      has_map: whether there is a map before the head.
      config: what config.json says.
      preprocessor: what preprocessor_config.json says.
    """

    method: str
    head: str
    base_sha256: str
    has_map: bool
    config: dict[str, Any]
    preprocessor: dict[str, Any]


def map_metadata(method: str, head: str) -> dict[str, str]:
    """What every header says: how the file is made and read."""
    return {
        "format": "pt",  # without it transformers refuses the file
        "cimm_jax.method": method,
        "cimm_jax.head": head,
        "cimm_jax.layout": LAYOUT,
        "cimm_jax.versions": json.dumps(versions()),
    }


def write_published(folder: Path, published: Published, subject: "Subject", defence: "Defence") -> tuple[str, ...]:
    """Writes `MODEL_FILE`, float32, whole or not at all; returns the names of what was written.

    A network whose publisher gave it no head has the fitted one in `HEAD_FILE` beside it.

    Args:
      folder: where.
      published: network, map and head.
      subject: the network that it was made from.
      defence: what was made, for the header.

    Raises:
      UnwritableError: if it cannot be written.
    """
    from cimm_jax.networks.weights import HEAD, head_name, named_tensors

    network, mapping, head = published
    source = subject.source
    assert subject.network_data is not None  # only a network has what `Published` holds
    others = source.weights if isinstance(source, NetworkSource) else None
    tensors = named_tensors(network, dict(zip(HEAD, head, strict=True)), others_from=others)
    config, preprocessor = _settings(network.config, source, subject.features)
    metadata = map_metadata(defence.name, head_name(network.config)) | {
        "cimm_jax.base_sha256": subject.network_data.weights_sha256,
        "cimm_jax.preprocessor_config": json.dumps(preprocessor),
    }
    if mapping is not None:
        tensors[MAP_KEY] = np.ascontiguousarray(mapping.T)
        metadata["cimm_jax.map"] = MAP_KEY
        config["immunization"] = {"weight": MAP_KEY, "before": metadata["cimm_jax.head"]}
    if defence.trained_from is not None:
        metadata["cimm_jax.trained_from"] = defence.trained_from
    content = tensors_to_bytes(tensors, metadata | {"cimm_jax.config": json.dumps(config)})
    write_whole(folder / MODEL_FILE, content)
    if network.config.classes:
        return (MODEL_FILE,)
    write_whole(folder / HEAD_FILE, tensors_to_bytes(head._asdict(), {}))
    return (MODEL_FILE, HEAD_FILE)


def _settings(config: "Config", source: Source, features: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """config.json and preprocessor_config.json: the publisher's own, of a checkpoint folder."""
    from cimm_jax.networks import checkpoint_folder
    from cimm_jax.networks.hub_files import model_config, preprocessor_config
    from cimm_jax.networks.hub_folder import folder_settings

    preprocessor = preprocessor_config(config.preprocess)
    folder = checkpoint_folder(source.model) if isinstance(source, NetworkSource) else None
    if folder is None:
        return model_config(config, source.title, features), preprocessor
    own, own_preprocessor = folder_settings(folder)
    return own, own_preprocessor or preprocessor


def read_told(path: Path) -> Told:
    """What the header of a file by `write_published` says.

    Raises:
      InputError: if it cannot be read, is damaged, or was written by anything else or an older version.
    """
    with open_tensors(path, "run", most=MOST_WEIGHTS_BYTES, cure=_CURE) as file:
        found, has_map = file.metadata, MAP_KEY in file.tensors
    try:
        method, head, base = (found[f"cimm_jax.{name}"] for name in ("method", "head", "base_sha256"))
        config, preprocessor = (json.loads(found[f"cimm_jax.{name}"]) for name in ("config", "preprocessor_config"))
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(f"run: {path} does not say how it was made, or an older version wrote it; {_CURE}") from error
    if not isinstance(config, dict) or not isinstance(preprocessor, dict) or not (not head or NAME.fullmatch(head)):
        raise InputError(f"run: {path} has another header than we write; {_CURE}")
    return Told(method, head, base, has_map, config, preprocessor)
