"""Published weights in, immunized weights out: safetensors files under the publishers' own names."""

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import numpy as np
import safetensors
from flax import nnx
from safetensors.numpy import save

from cimm_jax.errors import InputError
from cimm_jax.files import write_whole
from cimm_jax.networks import key_maps
from cimm_jax.networks.backbone import Backbone, Config
from cimm_jax.networks.key_maps import Entry, KeyMap

__all__ = ["IGNORED", "Tensor", "export_weights", "load_weights"]

IGNORED = ".num_batches_tracked"
"""PyTorch counts batches there, for a kind of momentum that none of these networks uses."""

_DTYPES = {"F16": np.float16, "BF16": jnp.bfloat16, "F32": np.float32, "F64": np.float64}


class Tensor(NamedTuple):
    """A tensor as it stands in a file.

    Attributes:
      dtype: as safetensors calls it, such as "F32".
      shape: its axes.
      data: its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def load_weights(config: Config, path: str | os.PathLike[str], *, names: str | None = None) -> Backbone:
    """The network with the file's weights, float32.

    Args:
      config: sizes of the network that the file holds.
      path: a safetensors file; `sources.from_hub` and `sources.from_package` find one.
      names: key map that the file is written under; None is the one of the architecture that most of its keys are in.

    Returns:
      The network, whose `config.names` is the key map, for `export_weights`.

    Raises:
      InputError: if the file cannot be read, is no whole safetensors file, or holds another architecture; or if keys are
        missing, surplus, misshapen or no floating-point numbers: all of them are listed.
    """
    file = Path(path)
    tensors = _read(file)
    key_map = _choose(config, tensors, file, names)
    config = dataclasses.replace(cast(Any, config), names=key_map.name, **key_map.settings)
    model = nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))  # shapes alone: no time spent on random numbers
    graphdef, state = nnx.split(model)
    variables: dict[key_maps.Path, Any] = dict(cast(Any, nnx.to_flat_state(state)))
    entries = key_map.entries(config)
    shapes = {path: tuple(variable.shape) for path, variable in variables.items()}
    problems = _problems(entries, shapes, tensors)
    if problems:
        raise InputError(
            f"weights: {file} does not fit {type(config).__name__} ({key_map.name}): {'; '.join(problems)}"
        )
    for entry in entries:
        for target, array in zip(entry.paths, _arrays(entry, tensors[entry.key]), strict=True):
            variables[target] = variables[target].replace(jnp.asarray(array))
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
    variables: dict[key_maps.Path, Any] = dict(cast(Any, nnx.to_flat_state(nnx.state(model))))
    tensors = {}
    for entry in _named(model.config, model.config.names).entries(model.config):
        arrays = [entry.layout.write(np.asarray(variables[target][...])) for target in entry.paths]
        tensors[entry.key] = np.ascontiguousarray(np.concatenate(arrays) if len(arrays) > 1 else arrays[0])
    try:
        return write_whole(Path(path), save(tensors, {"format": "pt"}))  # without it transformers refuses the file
    except OSError as error:
        raise InputError(
            f"path: cannot write {path} ({error.strerror}); choose a folder that exists and is yours"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"weights: {path} cannot be read ({error.strerror}); give a safetensors file") from error
    try:
        found = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise InputError(
            f"weights: {path} is no whole safetensors file ({error}); download it again, or convert it if it is a "
            "PyTorch pickle"
        ) from error
    return {key: Tensor(tensor["dtype"], tuple(tensor["shape"]), tensor["data"]) for key, tensor in found}


def _choose(config: Config, tensors: dict[str, Tensor], file: Path, names: str | None) -> KeyMap:
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
    entries: list[Entry], shapes: dict[key_maps.Path, tuple[int, ...]], tensors: dict[str, Tensor]
) -> list[str]:
    """Every key that is missing, surplus, misshapen or no floating-point numbers, one text a kind."""
    expected = {entry.key: _file_shape(entry, shapes) for entry in entries}
    missing = [key for key in expected if key not in tensors]
    surplus = [key for key in tensors if key not in expected and not key.endswith(IGNORED)]
    present = [(key, shape, tensors[key]) for key, shape in expected.items() if key in tensors]
    misshapen = [f"{key} {tensor.shape} for {shape}" for key, shape, tensor in present if tensor.shape != shape]
    wrong = [f"{key} {tensor.dtype}" for key, _, tensor in present if tensor.dtype not in _DTYPES]
    kinds = {"missing": missing, "surplus": surplus, "misshapen": misshapen, "not floating-point": wrong}
    return [f"{kind}: {', '.join(sorted(keys))}" for kind, keys in kinds.items() if keys]


def _file_shape(entry: Entry, shapes: dict[key_maps.Path, tuple[int, ...]]) -> tuple[int, ...]:
    axes = entry.layout.to_file
    parts = [
        shape if axes is None else tuple(shape[axis] for axis in axes)
        for shape in (shapes[path] for path in entry.paths)
    ]
    return (sum(part[0] for part in parts), *parts[0][1:])


def _arrays(entry: Entry, tensor: Tensor) -> list[np.ndarray]:
    """The model's arrays, float32, in the model's layout."""
    whole = np.frombuffer(tensor.data, _DTYPES[tensor.dtype]).reshape(tensor.shape).astype(np.float32)
    return [entry.layout.read(array) for array in np.split(whole, len(entry.paths))]
