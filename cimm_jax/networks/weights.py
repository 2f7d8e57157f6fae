"""Published weights in, immunized weights out: safetensors files under the publishers' own names."""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax import nnx

from cimm_jax.data.tensor_file import FLOATS, NUMBERS, Described, tensors_to_bytes
from cimm_jax.errors import InputError, few, one_line
from cimm_jax.files import UnwritableError, write_whole
from cimm_jax.networks import key_maps
from cimm_jax.networks.backbone import Backbone, Config
from cimm_jax.networks.key_maps import Entry, KeyMap
from cimm_jax.networks.weight_files import Checkpoint, open_checkpoint

__all__ = ["HEAD", "IGNORED", "WRAPPERS", "export_weights", "head_name", "load_weights", "named_tensors"]

IGNORED = ".num_batches_tracked"
"""PyTorch counts batches there, for a kind of momentum that none of these networks uses."""

HEAD: tuple[key_maps.Path, key_maps.Path] = (("head", "kernel"), ("head", "bias"))
"""Where every network has its head."""

WRAPPERS = {
    "module.": "torch.nn.DataParallel adds it; save model.module.state_dict()",
    "_orig_mod.": "torch.compile adds it; save model._orig_mod.state_dict()",
}
"""What keys begin with if a wrapped network was saved, and what to do."""


def load_weights(config: Config, path: str | os.PathLike[str], *, names: str | None = None) -> Backbone:
    """The network with the file's weights, float32.

    Args:
      config: sizes of the network that the file holds.
      path: a safetensors file, or the index of several; `sources.from_hub` and `sources.from_package` find one.
      names: key map that the file is written under; None is the one of the architecture that most of its keys are in.

    Returns:
      The network, whose `config.names` is the key map, for `export_weights`.

    Raises:
      InputError: if the file cannot be read, is no whole safetensors file, or holds another architecture; if keys are
        missing, surplus, misshapen or no floating-point numbers: all of them are listed; or if a tensor has a number that is
        not finite in float32, or a negative variance.
    """
    with open_checkpoint(Path(path)) as file:
        return _load(config, file, Path(path), names)


def _load(config: Config, file: Checkpoint, path: Path, names: str | None) -> Backbone:
    key_map = _choose(config, file.tensors, path, names)
    config = dataclasses.replace(cast(Any, config), names=key_map.name, **key_map.settings)
    try:
        model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))  # shapes alone: no time spent on random numbers
    except (ValueError, TypeError, OverflowError) as error:  # of sizes that anybody may have written
        raise InputError(f"model: a network of these sizes cannot be built ({one_line(error)})") from error
    graphdef, state = nnx.split(model)
    variables: dict[key_maps.Path, Any] = dict(cast(Any, nnx.to_flat_state(state)))
    entries = key_map.entries(config)
    shapes = {place: tuple(variable.shape) for place, variable in variables.items()}
    problems = _problems(entries, shapes, file.tensors, key_map.others)
    if problems:
        raise InputError(
            f"weights: {path} does not fit {type(config).__name__} ({key_map.name}): {'; '.join(problems)}"
        )
    found = {entry.key: _float32(file.array(entry.key)) for entry in entries}
    if faults := _faults(entries, found):
        raise InputError(f"weights: {path} has {'; '.join(faults)}; download it again, or take other weights")
    # Of a head that there is none of, the arrays are empty, and in no file.
    arrays = {path: np.zeros(shape, np.float32) for path, shape in shapes.items() if 0 in shape}
    for entry in entries:
        entry.read_into(arrays, shapes, found[entry.key])
    variables = {path: variable.replace(jnp.asarray(arrays[path])) for path, variable in variables.items()}
    return nnx.merge(graphdef, nnx.from_flat_state(cast(Any, variables)))


def export_weights(
    model: Backbone, path: str | os.PathLike[str], *, others_from: str | os.PathLike[str] | None = None
) -> Path:
    """Writes the model's weights, in the dtype they have, under the key map `model.config.names`.

    `load_weights` reads the file back, and so does the library that the names come from. PyTorch's num_batches_tracked
    is left out: its batch normalisation starts to count at 0.

    Args:
      model: a network, from `load_weights` or fresh.
      path: the file, written whole or not at all; its folder must exist.
      others_from: weights whose other tensors (`KeyMap.others`) are copied, so that a network's tower is exported in its place.

    Raises:
      InputError: if the architecture has no key map of that name, or a file cannot be read or written.
    """
    tensors = named_tensors(model, others_from=others_from)
    try:
        # Without the format transformers refuses the file.
        return write_whole(Path(path), tensors_to_bytes(tensors, {"format": "pt"}))
    except UnwritableError as error:
        raise InputError(
            f"path: cannot write {path} ({error.reason}); choose a folder that exists and is yours"
        ) from error


def named_tensors(
    model: Backbone,
    instead: Mapping[key_maps.Path, np.ndarray] = MappingProxyType({}),
    *,
    others_from: str | os.PathLike[str] | None = None,
) -> dict[str, np.ndarray]:
    """The model's weights as `export_weights` writes them: contiguous arrays by the publisher's keys.

    Args:
      model: a network.
      instead: arrays by their path in the model, in its layout, that are taken instead of its own, such as those of `HEAD`.
      others_from: weights whose other tensors (`KeyMap.others`) are copied.

    Raises:
      InputError: if the architecture has no key map `model.config.names`, or the other weights cannot be read.
    """
    variables: dict[key_maps.Path, Any] = dict(cast(Any, nnx.to_flat_state(nnx.state(model))))
    arrays = {path: np.asarray(variable[...]) for path, variable in variables.items() if path not in instead}
    arrays |= instead
    key_map = _named(model.config, model.config.names)
    tensors = _others(Path(others_from), key_map) if others_from is not None and key_map.others else {}
    for entry in key_map.entries(model.config):
        tensors[entry.key] = entry.written([arrays[path] for path in entry.paths])
    return tensors


def head_name(config: Config) -> str:
    """What the publisher calls the head, such as "fc"; empty if there is none. Raises `InputError` as `named_tensors`."""
    entries = _named(config, config.names).entries(config)
    return next((entry.key for entry in entries if entry.paths == HEAD[:1]), "").removesuffix(".weight")


def _choose(config: Config, tensors: Mapping[str, Described], file: Path, names: str | None) -> KeyMap:
    if names is not None:
        return _named(config, names)
    maps = config.key_maps
    known = {key_map.name: {entry.key for entry in key_map.entries(config)} for key_map in maps}
    best = max(maps, key=lambda key_map: len(known[key_map.name] & tensors.keys()))
    # Names such as "head.weight" are common to many architectures, so a few of them prove nothing.
    if 2 * len(known[best.name] & tensors.keys()) < len(known[best.name]):
        for wrapper, cure in WRAPPERS.items():
            if tensors and all(key.startswith(wrapper) for key in tensors):
                raise InputError(f"weights: the keys of {file} begin with {wrapper!r}: {cure} instead")
        examples = "; ".join(f"{key_map.name}: {min(known[key_map.name])}" for key_map in maps)
        raise InputError(
            f"weights: {file} holds another architecture than {type(config).__name__}: its {len(tensors)} keys are like "
            f"{', '.join(sorted(tensors)[:3])}, expected keys are like {examples}; choose the model that the file holds"
        )
    return best


def _named(config: Config, names: str) -> KeyMap:
    maps = config.key_maps
    for key_map in maps:
        if key_map.name == names:
            return key_map
    known = ", ".join(key_map.name for key_map in maps)
    raise InputError(f"names: {names!r} is no key map of {type(config).__name__}; choose one of {known}")


def _problems(
    entries: list[Entry],
    shapes: dict[key_maps.Path, tuple[int, ...]],
    tensors: Mapping[str, Described],
    others: tuple[str, ...],
) -> list[str]:
    """Every key that is missing, surplus, misshapen or no floating-point numbers, one text a kind."""
    expected = {entry.key: entry.file_shape(shapes) for entry in entries}
    missing = [key for key in expected if key not in tensors]
    surplus = [
        key for key in tensors if key not in expected and not key.endswith(IGNORED) and not key.startswith(others)
    ]
    present = [(key, shape, tensors[key]) for key, shape in expected.items() if key in tensors]
    misshapen = [f"{key} {tensor.shape} for {shape}" for key, shape, tensor in present if tensor.shape != shape]
    wrong = [f"{key} {tensor.dtype}" for key, _, tensor in present if tensor.dtype not in FLOATS]
    kinds = {"missing": missing, "surplus": surplus, "misshapen": misshapen, "not floating-point": wrong}
    return [f"{kind}: {', '.join(sorted(keys))}" for kind, keys in kinds.items() if keys]


def _others(path: Path, key_map: KeyMap) -> dict[str, np.ndarray]:
    """Tensors of a file that the network has no arrays for, as they are."""
    with open_checkpoint(path) as file:
        wanted = [key for key, of in file.tensors.items() if key.startswith(key_map.others) and of.dtype in NUMBERS]
        return {key: file.array(key) for key in wanted}


def _float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is looked for
        return array.astype(np.float32)


def _faults(entries: list[Entry], found: Mapping[str, np.ndarray]) -> list[str]:
    """Every tensor that makes features of no meaning, one text a kind."""
    broken = [key for key, array in found.items() if not np.isfinite(array).all()]
    variances = [entry.key for entry in entries if entry.paths[0][-1] == key_maps.VARIANCE]
    negative = [key for key in variances if key not in broken and (found[key] < 0).any()]
    kinds = {"numbers that are not finite in float32 in": broken, "negative variances in": negative}
    return [f"{kind} {few(sorted(keys))}" for kind, keys in kinds.items() if keys]
