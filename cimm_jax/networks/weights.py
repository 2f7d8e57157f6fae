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

from cimm_jax.data.tensor_file import (
    FLOATS,
    MOST_WEIGHTS_BYTES,
    Described,
    TensorFile,
    open_tensors,
    tensors_to_bytes,
)
from cimm_jax.errors import InputError, few
from cimm_jax.files import UnwritableError, write_whole
from cimm_jax.networks import key_maps
from cimm_jax.networks.backbone import Backbone, Config
from cimm_jax.networks.key_maps import Entry, KeyMap

__all__ = ["HEAD", "IGNORED", "export_weights", "head_name", "load_weights", "named_tensors"]

IGNORED = ".num_batches_tracked"
"""PyTorch counts batches there, for a kind of momentum that none of these networks uses."""

HEAD: tuple[key_maps.Path, key_maps.Path] = (("head", "kernel"), ("head", "bias"))
"""Where every network has its head."""


def load_weights(config: Config, path: str | os.PathLike[str], *, names: str | None = None) -> Backbone:
    """The network with the file's weights, float32.

    Args:
      config: sizes of the network that the file holds.
      path: a safetensors file; `sources.from_hub` and `sources.from_package` find one.
      names: key map that the file is written under; None is the one of the architecture that most of its keys are in.

    Returns:
      The network, whose `config.names` is the key map, for `export_weights`.

    Raises:
      InputError: if the file cannot be read, is no whole safetensors file, or holds another architecture; if keys are
        missing, surplus, misshapen or no floating-point numbers: all of them are listed; or if a tensor has a number that is
        not finite in float32, or a negative variance.
    """
    cure = "download it again, or convert it if it is a PyTorch pickle"
    with open_tensors(Path(path), "weights", most=MOST_WEIGHTS_BYTES, cure=cure) as file:
        return _load(config, file, Path(path), names)


def _load(config: Config, file: TensorFile, path: Path, names: str | None) -> Backbone:
    key_map = _choose(config, file.tensors, path, names)
    config = dataclasses.replace(cast(Any, config), names=key_map.name, **key_map.settings)
    model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))  # shapes alone: no time spent on random numbers
    graphdef, state = nnx.split(model)
    variables: dict[key_maps.Path, Any] = dict(cast(Any, nnx.to_flat_state(state)))
    entries = key_map.entries(config)
    shapes = {place: tuple(variable.shape) for place, variable in variables.items()}
    problems = _problems(entries, shapes, file.tensors)
    if problems:
        raise InputError(
            f"weights: {path} does not fit {type(config).__name__} ({key_map.name}): {'; '.join(problems)}"
        )
    found = {entry.key: _float32(file.array(entry.key)) for entry in entries}
    if faults := _faults(entries, found):
        raise InputError(f"weights: {path} has {'; '.join(faults)}; download it again, or take other weights")
    for entry in entries:
        for target, array in zip(entry.paths, np.split(found[entry.key], len(entry.paths)), strict=True):
            variables[target] = variables[target].replace(jnp.asarray(entry.layout.read(array)))
    return nnx.merge(graphdef, nnx.from_flat_state(cast(Any, variables)))


def export_weights(model: Backbone, path: str | os.PathLike[str]) -> Path:
    """Writes the model's weights, in the dtype they have, under the key map `model.config.names`.

    `load_weights` reads the file back, and so does the library that the names come from. PyTorch's num_batches_tracked
    is left out: its batch normalisation starts to count at 0.

    Args:
      model: a network, from `load_weights` or fresh.
      path: the file, written whole or not at all; its folder must exist.

    Raises:
      InputError: if the architecture has no key map of that name, or the file cannot be written.
    """
    tensors = named_tensors(model)
    try:
        return write_whole(
            Path(path), tensors_to_bytes(tensors, {"format": "pt"})
        )  # without it transformers refuses the file
    except UnwritableError as error:
        raise InputError(
            f"path: cannot write {path} ({error.reason}); choose a folder that exists and is yours"
        ) from error


def named_tensors(
    model: Backbone, instead: Mapping[key_maps.Path, np.ndarray] = MappingProxyType({})
) -> dict[str, np.ndarray]:
    """The model's weights as `export_weights` writes them: contiguous arrays by the publisher's keys.

    Args:
      model: a network.
      instead: arrays by their path in the model, in its layout, that are taken instead of its own, such as those of `HEAD`.

    Raises:
      InputError: if the architecture has no key map `model.config.names`.
    """
    variables: dict[key_maps.Path, Any] = dict(cast(Any, nnx.to_flat_state(nnx.state(model))))
    arrays = {path: np.asarray(variable[...]) for path, variable in variables.items() if path not in instead}
    arrays |= instead
    tensors = {}
    for entry in _named(model.config, model.config.names).entries(model.config):
        parts = [entry.layout.write(arrays[path]) for path in entry.paths]
        tensors[entry.key] = np.ascontiguousarray(np.concatenate(parts) if len(parts) > 1 else parts[0])
    return tensors


def head_name(config: Config) -> str:
    """What the publisher calls the head, such as "fc"; raises `InputError` as `named_tensors`."""
    entries = _named(config, config.names).entries(config)
    return next(entry.key for entry in entries if entry.paths == HEAD[:1]).removesuffix(".weight")


def _choose(config: Config, tensors: Mapping[str, Described], file: Path, names: str | None) -> KeyMap:
    if names is not None:
        return _named(config, names)
    maps = config.key_maps
    known = {key_map.name: {entry.key for entry in key_map.entries(config)} for key_map in maps}
    best = max(maps, key=lambda key_map: len(known[key_map.name] & tensors.keys()))
    # Names such as "head.weight" are common to many architectures, so a few of them prove nothing.
    if 2 * len(known[best.name] & tensors.keys()) < len(known[best.name]):
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
    entries: list[Entry], shapes: dict[key_maps.Path, tuple[int, ...]], tensors: Mapping[str, Described]
) -> list[str]:
    """Every key that is missing, surplus, misshapen or no floating-point numbers, one text a kind."""
    expected = {entry.key: _file_shape(entry, shapes) for entry in entries}
    missing = [key for key in expected if key not in tensors]
    surplus = [key for key in tensors if key not in expected and not key.endswith(IGNORED)]
    present = [(key, shape, tensors[key]) for key, shape in expected.items() if key in tensors]
    misshapen = [f"{key} {tensor.shape} for {shape}" for key, shape, tensor in present if tensor.shape != shape]
    wrong = [f"{key} {tensor.dtype}" for key, _, tensor in present if tensor.dtype not in FLOATS]
    kinds = {"missing": missing, "surplus": surplus, "misshapen": misshapen, "not floating-point": wrong}
    return [f"{kind}: {', '.join(sorted(keys))}" for kind, keys in kinds.items() if keys]


def _file_shape(entry: Entry, shapes: dict[key_maps.Path, tuple[int, ...]]) -> tuple[int, ...]:
    axes = entry.layout.to_file
    parts = [
        shape if axes is None else tuple(shape[axis] for axis in axes)
        for shape in (shapes[path] for path in entry.paths)
    ]
    return (sum(part[0] for part in parts), *parts[0][1:])


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
