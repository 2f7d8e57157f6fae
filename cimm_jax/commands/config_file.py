"""A file of settings, in TOML: the flags of a command by name, read before a run and written beside its results.

A key is a flag without the dashes in front (`batch-size = 16`). Flags on the command line win; what is left out
has its default.
"""

import difflib
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import tomli_w

from cimm_jax.errors import InputError, one_line
from cimm_jax.files import read_regular, write_whole
from cimm_jax.runs.codec import decode, encode
from cimm_jax.runs.records import Manifest, typed

__all__ = ["CONFIG_FILE", "MOST_BYTES", "NOT_REPEATED", "S", "read_config", "write_config"]

CONFIG_FILE = "config.toml"
"""In a run folder."""

NOT_REPEATED = ("out", "json", "config")
"""Settings that say where a run goes and where it was read, not what it is."""

MOST_BYTES = 1 << 20

S = TypeVar("S")


def read_config(path: Path, kind: type[S]) -> S:
    """The settings of a command from a file, the others at their defaults.

    Args:
      path: of the file.
      kind: of settings, such as `settings.Immunize`.

    Raises:
      InputError: if the file cannot be read or is no TOML, or has a name that is no flag of the command, of which the message
        names the nearest, a name twice, or a value of another type.
    """
    content = read_regular(path, "--config", most=MOST_BYTES, cure="give a TOML file of settings")
    try:
        given = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config: {path} is no TOML ({one_line(error)}); correct it") from error
    hints = get_type_hints(kind)
    known = {_key(field.name): field.name for field in fields(kind) if field.name != "config"}  # pyright: ignore
    values: dict[str, Any] = {}
    for key, value in given.items():
        name = known.get(_key(key))
        if name is None:
            command = f"cimm {kind.__name__.lower()}"
            near = difflib.get_close_matches(_key(key), known, n=3, cutoff=0.5)
            advice = f"did you mean {' or '.join(near)}?" if near else f"see {command} --help"
            raise InputError(f"--config: {path} has {key!r}, which is no flag of {command}; {advice}")
        if name in values:
            raise InputError(f"--config: {path} has {_key(key)} with - and with _; give it once")
        try:
            values[name] = decode(hints[name], value)
        except InputError as error:
            raise InputError(f"--config: {path} has {key} = {value!r}, which cannot be used ({error})") from error
    return kind(**values)


def write_config(folder: Path, manifest: Manifest) -> Path:
    """Writes what a run was asked for, its defaults included: `--config` with it makes the run again, later versions too.

    Raises:
      UnwritableError: as `files.write_whole`.
    """
    settings = encode(manifest)["settings"]
    content = {_key(name): value for name, value in settings.items() if name not in NOT_REPEATED and value is not None}
    again = f"# {typed(manifest.command)} --config {CONFIG_FILE} --out DIR runs this again.\n"
    return write_whole(folder / CONFIG_FILE, again + tomli_w.dumps(content))


def _key(name: str) -> str:
    return name.replace("_", "-")
