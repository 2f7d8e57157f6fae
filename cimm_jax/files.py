"""Files: regular ones are read within bounds, and what is written is written whole or not at all."""

import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cimm_jax.errors import InputError, few, one_line

__all__ = [
    "UnreadableError",
    "UnwritableError",
    "cache_home",
    "check_name",
    "entries",
    "open_regular",
    "output_folder",
    "read_regular",
    "reason_of",
    "write_json",
    "write_whole",
    "written_folder",
]


class UnreadableError(InputError):
    """A file or folder that cannot be read: missing, forbidden, of no regular kind, too large.

    Attributes:
      reason: what is wrong with it.
    """

    def __init__(self, argument: str, path: object, reason: str, cure: str):
        super().__init__(f"{argument}: {path} cannot be read ({reason}); {cure}")
        self.reason = reason


class UnwritableError(InputError):
    """A file that cannot be written.

    Attributes:
      reason: why, as the system says it.
    """

    def __init__(self, argument: str, path: Path, reason: str):
        super().__init__(f"{argument}: cannot write {path} ({reason}); make room, or choose a folder that is yours")
        self.reason = reason


def cache_home() -> Path:
    """cimm_jax in $XDG_CACHE_HOME, or in ~/.cache: for what can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cimm_jax"


def check_name(path: Path | str, argument: str) -> None:
    """Raises `InputError` for a path that is no text: no system knows it, or no record could hold it."""
    text = str(path)
    if "\0" in text or text != text.encode(errors="replace").decode():
        raise InputError(f"{argument}: {text!a} is no name in UTF-8; rename it")


@contextmanager
def open_regular(path: Path, argument: str, *, most: int, cure: str) -> Iterator[io.BufferedReader]:
    """Opens a regular file of a bounded size to read: a pipe would never end, and a device is no data.

    Args:
      path: of the file.
      argument: what messages call it.
      most: bytes that it may have.
      cure: what messages advise.

    Raises:
      UnreadableError: if it cannot be opened, is of no regular kind or too large, or reading it fails.
      InputError: if its name is no text.
    """
    check_name(path, argument)
    try:
        # Without it, a pipe that nobody writes to would block here already.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        if (reason := _unusable(os.fstat(handle), most)) is not None:
            os.close(handle)
            raise UnreadableError(argument, path, reason, cure)
        with os.fdopen(handle, "rb") as file:
            yield file
    except OSError as error:
        raise UnreadableError(argument, path, reason_of(error), cure) from error


def read_regular(path: Path, argument: str, *, most: int, cure: str) -> bytes:
    """The content of a regular file of a bounded size; arguments and errors as in `open_regular`."""
    with open_regular(path, argument, most=most, cure=cure) as file:
        content = file.read(most + 1)
    if len(content) > most:  # it grew, or the system does not know its size
        raise UnreadableError(argument, path, f"more than {most:,} bytes", cure)
    return content


def entries(folder: Path, argument: str, *, cure: str) -> list[Path]:
    """What is in a folder, in alphabetical order; raises `UnreadableError` if it cannot be listed."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UnreadableError(argument, folder, reason_of(error), cure) from error


def output_folder(path: Path, argument: str = "--out") -> Path:
    """Makes the folder and proves that it can be written, so that a long run does not fail at its end."""
    check_name(path, argument)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{argument}: cannot write to {path} ({reason_of(error)}); choose a folder you own") from error
    return path


def write_whole(path: Path, content: bytes | str, argument: str = "--out") -> Path:
    """Writes `content` to a temporary neighbour and renames it over `path`: a reader never sees half a file.

    Raises:
      UnwritableError: if it cannot be written, as on a full disk; what was at `path` is there still.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UnwritableError(argument, path, reason_of(error)) from error
    return path


@contextmanager
def written_folder(path: Path, argument: str) -> Iterator[Path]:
    """A folder to write into, which is renamed to `path` at the end: nobody sees it half full.

    Raises:
      InputError: if there is anything at `path` but an empty folder, or it cannot be written.
    """
    check_name(path, argument)
    cure = "choose a new folder"
    try:
        if os.path.lexists(path) and not path.is_dir():
            raise InputError(f"{argument}: {path} is a file; {cure}")
        if path.is_dir() and (found := entries(path, argument, cure=cure)):
            raise InputError(f"{argument}: {path} has other files, {few([place.name for place in found])}; {cure}")
        target = path.absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
        try:
            yield temporary
            os.chmod(temporary, 0o755)
            os.replace(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as error:
        raise UnwritableError(argument, path, reason_of(error)) from error


def write_json(path: Path, content: Any, argument: str = "--out") -> Path:
    """Writes JSON that any parser reads: numbers that are not finite become null. Errors as in `write_whole`."""
    return write_whole(path, json.dumps(_plain(content), indent=2, allow_nan=False) + "\n", argument)


def reason_of(error: OSError) -> str:
    """What went wrong, as the system says it."""
    return error.strerror or one_line(error)


def _unusable(found: os.stat_result, most: int) -> str | None:
    """Why a file is not read; None if it is."""
    if not stat.S_ISREG(found.st_mode):
        return "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
    return f"{found.st_size:,} bytes, of which at most {most:,} are read" if found.st_size > most else None


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
