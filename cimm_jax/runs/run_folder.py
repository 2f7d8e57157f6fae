"""Run folders: results.json written by a record's type and read back by it."""

import json
from pathlib import Path
from typing import Any, TypeVar

from cimm_jax.errors import InputError, one_line
from cimm_jax.files import UnreadableError, read_regular, write_whole
from cimm_jax.runs.codec import decode, encode
from cimm_jax.runs.records import RECORDS, SCHEMA, Record, typed

__all__ = ["MOST_BYTES", "RESULTS_FILE", "R", "command_of", "read_record", "read_record_of", "write_record"]

RESULTS_FILE = "results.json"

MOST_BYTES = 1 << 26
"""Of results.json: one of 90 pairs, seven methods and three seeds has two million. Python takes forty times as much memory."""

R = TypeVar("R", bound=Record)


def write_record(folder: Path, record: Record) -> Path:
    """Writes results.json into the folder, whole or not at all."""
    return write_whole(folder / RESULTS_FILE, json.dumps(encode(record), indent=2, allow_nan=False) + "\n")


def command_of(folder: Path) -> str | None:
    """Which command wrote the folder's results.json; None if there is none, or it was written by anything else."""
    try:
        return _manifest(_content(folder / RESULTS_FILE)).get("command")
    except (ValueError, RecursionError):
        return None


def read_record(folder: Path) -> Record:
    """The record of a run folder.

    Raises:
      InputError: if results.json is missing, damaged, not one of ours, or written by a version with another layout.
    """
    path = folder / RESULTS_FILE
    try:
        content = _content(path)
    except UnreadableError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"runs: {path} is damaged ({one_line(error)}); make the run again") from error
    manifest = _manifest(content)
    if manifest.get("command") not in list(RECORDS):
        raise InputError(
            f"runs: {path} was not written by cimm, or by an older version; give the --out folder of a run"
        )
    if manifest.get("schema") != SCHEMA:
        raise InputError(
            f"runs: {path} has layout {manifest.get('schema')}, this version reads {SCHEMA}; make the run again"
        )
    try:
        return decode(RECORDS[manifest["command"]], content)
    except InputError as error:
        raise InputError(f"runs: {path} is damaged or incomplete ({error}); make the run again") from error


def read_record_of(folder: Path, kind: type[R]) -> R:
    """The same, of one kind; raises `InputError` also for another kind."""
    record = read_record(folder)
    if not isinstance(record, kind):
        wanted = next(name for name, known in RECORDS.items() if known is kind)
        raise InputError(
            f"runs: {folder} is a run of {typed(record.manifest.command)}; give folders of {typed(wanted)}"
        )
    return record


def _content(path: Path) -> Any:
    cure = "give the --out folder of a finished run"
    content = json.loads(read_regular(path, "runs", most=MOST_BYTES, cure=cure).decode())
    json.dumps(content, ensure_ascii=False).encode()  # half a character could be read, but never shown or written
    return content


def _manifest(content: Any) -> dict[str, Any]:
    manifest = content.get("manifest") if isinstance(content, dict) else None
    return manifest if isinstance(manifest, dict) else {}
