"""What every command does at its end: one record written, one picture, one view printed."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cimm_jax.commands.config_file import NOT_REPEATED, write_config
from cimm_jax.files import write_whole
from cimm_jax.runs.manifest import make_manifest
from cimm_jax.runs.records import Manifest, Record
from cimm_jax.runs.run_folder import write_record
from cimm_jax.verbosity import Level, level
from cimm_jax.views.blocks import Part
from cimm_jax.views.registry import part_of
from cimm_jax.views.render.picture import png_of
from cimm_jax.views.render.terminal import print_part

__all__ = ["command_line", "deliver", "manifest_of"]


def manifest_of(settings: Any, data_sha256: Mapping[str, str] | None = None) -> Manifest:
    """How a run of these settings is made, from data of these checksums."""
    return make_manifest(
        type(settings).__name__.lower(),
        asdict(settings),
        command_line=command_line(settings),
        data_sha256=data_sha256,
    )


def command_line(settings: Any) -> str:
    """The command that makes a run again: its settings where they are not the default, but for where it writes."""
    words, options = ["cimm", type(settings).__name__.lower()], []
    for known in fields(settings):
        value = getattr(settings, known.name)
        if known.name in NOT_REPEATED or value == known.default:
            continue
        values = [str(item) for item in value] if isinstance(value, tuple) else [str(value)]
        if known.name == "runs":
            words += values
        else:
            options += [f"--{known.name.replace('_', '-')}", *([] if value is True else values)]
    return shlex.join([*words, *options])


def deliver(folder: Path, record: Record, *, json: bool, beside: Sequence[str] = ()) -> Part:
    """Writes config.toml, results.json and, if there are figures, a picture; prints the view, unless quiet, or the file.

    Args:
      folder: where to write.
      record: what was found.
      json: print the file.
      beside: other files that were written there.

    Returns:
      What was shown.
    """
    part = part_of(record, str(folder))
    write_config(folder, record.manifest)
    written = write_record(folder, record)
    picture = folder / f"{record.manifest.command}.png"
    if part.figures:
        write_whole(picture, png_of(part.figures, title=part.title))
    else:  # as of tasks without labels; an earlier run's picture would be taken for this one's
        picture.unlink(missing_ok=True)
    if json:
        print(written.read_text(), end="")
        return part
    if level() is Level.QUIET:
        return part
    print_part(part)
    print(f"\nPicture: {picture}" if part.figures else "", f"Figures: {written}", sep="\n")
    if beside:
        print(f"To be published: {', '.join(str(folder / name) for name in beside)}")
    return part
