"""Output files that are written whole or not at all."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from cimm_jax.errors import InputError

__all__ = ["output_folder", "write_json", "write_whole"]


def output_folder(path: Path, argument: str = "--out") -> Path:
    """Makes the folder and proves that it can be written, so that a long run does not fail at its end."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{argument}: cannot write to {path} ({error.strerror}); choose a folder you own") from error
    return path


def write_whole(path: Path, content: bytes | str) -> Path:
    """Writes `content` to a temporary neighbour and renames it over `path`: a reader never sees half a file."""
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_json(path: Path, content: Any) -> Path:
    """Writes JSON that any parser reads: numbers that are not finite become null."""
    return write_whole(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """Turns arrays and tuples into lists, and numbers that JSON has no word for into None."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value
