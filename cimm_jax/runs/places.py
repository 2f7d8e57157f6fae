"""Where the files of a run are on this machine: its record names some, and whoever wrote the record may have named any.

So files are read where the command line says, or where the record does, and in both cases they must be what the run was made
from, by their checksums; nothing is written to a place that a record names.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cimm_jax.data.image_tfds import FOLDER_MARK, is_tfds
from cimm_jax.errors import InputError, few
from cimm_jax.plugins import is_file
from cimm_jax.runs.records import ImmunizeRecord
from cimm_jax.runs.several_harmful import checksums_of_each
from cimm_jax.runs.source import DataSource, FeatureSource, NetworkSource, Source
from cimm_jax.runs.subject import Subject

__all__ = ["check_made_from", "moved", "named_only"]


def moved(source: Source, places: Mapping[str, Any]) -> Source:
    """A record's source, with files where they are here.

    Args:
      source: as the record has it.
      places: by field of the source; None leaves what the record says.

    Raises:
      InputError: if the record is of several harmful tasks and the command line names none of them, or names a single class,
        which would be taken for a file of names, or something that the command line does not name again: a Python file with the
        network, which would be run, or a folder of TensorFlow Datasets, which says what is imported to read it.
    """
    if isinstance(source, NetworkSource):
        if places.get("model") is None and is_file(source.model):
            raise InputError(f"model: the record names {source.model}; give it again if that file is to be trusted")
        for task in ("primary", "harmful"):
            if len(names := getattr(source, f"{task}_classes")) == 1:
                raise InputError(
                    f"runs: the record has {few(names)} as {task}_classes, which needs two; immunize again"
                )
            images = getattr(source, task)
            if places.get(task) is None and is_tfds(images) and FOLDER_MARK in images:
                raise InputError(f"{task}: the record names {images}; give it again if that folder is to be trusted")
    if not isinstance(source, DataSource) and source.harmful_too:
        if places.get("harmful") is None:
            blocked = [Path(task).name for task in (source.harmful, *source.harmful_too)]
            raise InputError(f"harmful: the run blocks several, {few(blocked)}; say with --harmful which one to attack")
        source = replace(source, harmful_too=())
    return replace(source, **{name: place for name, place in places.items() if place is not None})


def named_only(source: Source) -> Source:
    """A source with the names of its files and without their folders, which are nobody's business where it is published."""
    if isinstance(source, DataSource):
        return replace(source, data_dir=None)
    if isinstance(source, FeatureSource):
        benign = None if source.benign is None else Path(source.benign.name)
        too = tuple(Path(path.name) for path in source.harmful_too)
        names = {"primary": Path(source.primary.name), "harmful": Path(source.harmful.name), "benign": benign}
        return replace(source, **names, harmful_too=too)
    primary, harmful, *too = (
        text.partition(FOLDER_MARK)[0] if is_tfds(text) else Path(text).name
        for text in (source.primary, source.harmful, *source.harmful_too)
    )
    weights = Path(source.weights.name)
    return replace(source, weights=weights, primary=primary, harmful=harmful, harmful_too=tuple(too))


def check_made_from(subject: Subject, runs: Mapping[str, ImmunizeRecord]) -> None:
    """Raises `InputError` unless the subject's files have the checksums that the records of the runs hold."""
    found = subject.checksums()
    for name, record in runs.items():
        made_from = record.manifest.data_sha256 if record.network is None else record.network.checksums()
        made_from = next((one for one in checksums_of_each(made_from) if one == found), made_from)
        differing = [part for part in {**made_from, **found} if made_from.get(part) != found.get(part)]
        if differing:
            raise InputError(f"runs: {name} was made from other data, {few(differing)} differ; {_cure(subject)}")


def _cure(subject: Subject) -> str:
    if isinstance(subject.source, DataSource):
        flags = "--data-dir"
    else:
        weights = "--weights, " if isinstance(subject.source, NetworkSource) else ""
        flags = f"{weights}--primary and --harmful"
    return f"say with {flags} where its own are"
