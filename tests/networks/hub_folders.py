"""Checkpoint folders in golden/hub, and variants of them as publishers have them."""

import json
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from cimm_jax.networks.hub_folder import hub_config
from cimm_jax.networks.weight_files import weights_of
from cimm_jax.networks.weights import load_weights

HUB = Path(__file__).parent / "golden" / "hub"
NAMES = sorted(path.name for path in HUB.iterdir())


def loaded(folder):
    return load_weights(hub_config(folder, weights_of(folder)), weights_of(folder))


def variant(name, folder, *, rename=lambda key: key, **fields):
    """A copy with other names of tensors, None for those that are left out, and other fields of config.json."""
    folder.mkdir()
    for file in ("config.json", "preprocessor_config.json"):
        shutil.copy(HUB / name / file, folder / file)
    edit(folder / "config.json", **fields)
    tensors = load_file(HUB / name / "model.safetensors")
    renamed = {rename(key): value for key, value in tensors.items()}
    renamed.pop(None, None)
    save_file(renamed, folder / "model.safetensors")
    return folder


def edit(path, **fields):
    """Other fields of a JSON file; None takes one out."""
    content = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
