"""Tensors of a checkpoint: one safetensors file, or several with an index that says which has what."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cimm_jax.data.tensor_file import MOST_WEIGHTS_BYTES, Described, TensorFile, open_tensors
from cimm_jax.errors import InputError, few, one_line
from cimm_jax.files import open_regular, read_regular

__all__ = [
    "CONFIG",
    "CURE",
    "INDEX",
    "MOST_INDEX_BYTES",
    "SINGLE",
    "Checkpoint",
    "open_checkpoint",
    "weights_checksum",
    "weights_of",
]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""What the weights of a folder are called."""

CONFIG = "config.json"

MOST_INDEX_BYTES = 1 << 24
"""A hundred thousand keys with their files."""

CURE = "download it again, or convert it if it is a PyTorch pickle"

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth")


class Checkpoint(NamedTuple):
    """Open files.

    Attributes:
      tensors: what they hold, by name.
      files: which file has each, by name.
    """

    tensors: Mapping[str, Described]
    files: Mapping[str, TensorFile]

    def array(self, name: str) -> np.ndarray:
        """A tensor of numbers (`tensor_file.NUMBERS`)."""
        return self.files[name].array(name)


def weights_of(folder: Path) -> Path:
    """The folder's weights, or their index.

    Raises:
      InputError: if it has neither.
    """
    for name in (SINGLE, INDEX):
        if os.path.isfile(folder / name):
            return folder / name
    pickles = [name for name in _PICKLES if os.path.exists(folder / name)]
    why = (
        f"only {pickles[0]}, a pickle, which can run anything: save it again as safetensors"
        if pickles
        else "no weights"
    )
    raise InputError(f"model: {folder} has {why}; give a folder with {SINGLE} or {INDEX}, or name a file by --weights")


@contextmanager
def open_checkpoint(path: Path, argument: str = "weights") -> Iterator[Checkpoint]:
    """Opens weights.

    Args:
      path: a safetensors file or, if its name ends in .json, an index of several.
      argument: what messages call it.

    Raises:
      InputError: if a file cannot be read or is no whole safetensors file, or the index is none, names a file elsewhere, or a
        tensor that its file lacks.
    """
    with ExitStack() as stack:

        def opened(file: Path) -> TensorFile:
            return stack.enter_context(open_tensors(file, argument, most=MOST_WEIGHTS_BYTES, cure=CURE))

        if not _is_index(path):
            single = opened(path)
            yield Checkpoint(single.tensors, dict.fromkeys(single.tensors, single))
            return
        by_name = _weight_map(path, argument)
        shards = {name: opened(path.parent / name) for name in sorted(set(by_name.values()))}
        missing = [key for key, name in by_name.items() if key not in shards[name].tensors]
        if missing:
            raise InputError(f"{argument}: {path} names tensors that its files lack: {few(sorted(missing))}; {CURE}")
        files = {key: shards[name] for key, name in by_name.items()}
        yield Checkpoint({key: file.tensors[key] for key, file in files.items()}, files)


def weights_checksum(path: Path) -> str:
    """SHA-256 of a file of weights; of an index, of lines "file checksum". Raises `InputError` as `open_checkpoint`."""
    if not _is_index(path):
        return _sha256(path)
    names = sorted(set(_weight_map(path, "weights").values()))
    lines = (f"{name} {_sha256(path.parent / name)}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open_regular(path, "weights", most=MOST_WEIGHTS_BYTES, cure="give a safetensors file") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_index(path: Path) -> bool:
    return path.suffix == ".json"


def _weight_map(path: Path, argument: str) -> dict[str, str]:
    """By key, the name of its file, which is beside the index."""
    content = read_regular(path, argument, most=MOST_INDEX_BYTES, cure=CURE)
    try:
        found: Any = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{argument}: {path} is no JSON ({one_line(error)}); {CURE}") from error
    by_name = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(by_name, dict) or not by_name or not all(isinstance(name, str) for name in by_name.values()):
        raise InputError(f"{argument}: {path} has no weight_map from tensors to files; {CURE}")
    elsewhere = [name for name in by_name.values() if Path(name).name != name or "\\" in name]
    if elsewhere:
        raise InputError(f"{argument}: {path} names {elsewhere[0]}, which is not beside it; {CURE}")
    return by_name
