"""Text folders: `train/CLASS/*.txt`, `train/CLASS.txt` with a text a line or `train/CLASS.jsonl`, and the same in `test`.

A folder without `train` holds the classes itself, and has no held-out part.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cimm_jax.data.image_folder import HELDOUT, TRAIN
from cimm_jax.errors import InputError, few, printable
from cimm_jax.files import check_name, entries, read_regular

__all__ = ["MOST_BYTES", "SUFFIXES", "SplitTexts", "Texts", "load_text_folder"]

SUFFIXES = (".txt", ".jsonl")
"""Of files with texts; in a folder of a class, only the first."""

MOST_BYTES = 1 << 30
"""Of a file with texts."""

_CURE = "make it yours to read"
_FORMS = "train/CLASS/*.txt, train/CLASS.txt with a text a line, or train/CLASS.jsonl"


class Texts(NamedTuple):
    """One part of a data set of texts.

    Attributes:
      texts: N texts.
      labels: position of each text's class in `classes`, shape (N,), int64.
      classes: names, in the order of the labels.
      skipped: what has no text, each as "name: reason".
    """

    texts: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    skipped: tuple[str, ...] = ()


class SplitTexts(NamedTuple):
    """One data set in two parts; no held-out part for texts that come in one."""

    train: Texts
    heldout: Texts | None


def load_text_folder(folder: Path, *, strict: bool = False) -> SplitTexts:
    """Texts of a folder, classes in alphabetical order.

    Args:
      folder: where the texts are.
      strict: refuse files and lines without a text, which are skipped otherwise.

    Raises:
      InputError: if there is no such folder, it holds no texts, `train` and `test` have different classes, a class has no text,
        a file is not UTF-8 or a line no JSON with a text, or, if strict, one is empty.
    """
    check_name(folder, "texts")
    if not os.path.isdir(folder):
        raise InputError(f"texts: {folder} is not a folder; give one with {_FORMS}")
    if not os.path.isdir(folder / TRAIN):
        return SplitTexts(_read(folder, _class_places(folder), strict), None)
    found = {part: _class_places(folder / part) for part in (TRAIN, HELDOUT) if os.path.isdir(folder / part)}
    if HELDOUT in found and found[HELDOUT].keys() != found[TRAIN].keys():
        missing, surplus = (sorted(found[a].keys() - found[b].keys()) for a, b in ((TRAIN, HELDOUT), (HELDOUT, TRAIN)))
        raise InputError(
            f"texts: {folder / HELDOUT} and train differ: missing {few(missing)}, surplus {few(surplus)}; make the classes "
            "the same"
        )
    parts = {part: _read(folder / part, places, strict) for part, places in found.items()}
    return SplitTexts(parts[TRAIN], parts.get(HELDOUT))


def _class_places(folder: Path) -> dict[str, Path]:
    """A folder or file of each class, in alphabetical order of their names."""
    places: dict[str, Path] = {}
    for path in entries(folder, "texts", cure=_CURE):
        if path.name.startswith(".") or not (os.path.isdir(path) or path.suffix in SUFFIXES):
            continue
        check_name(path, "texts")
        name = path.name if os.path.isdir(path) else path.stem
        if name in places:
            raise InputError(f"texts: {places[name]} and {path} are of one class; put its texts in one place")
        places[name] = path
    if not places:
        raise InputError(f"texts: {folder} has no classes; give a folder with {_FORMS}")
    return dict(sorted(places.items()))


def _read(root: Path, places: Mapping[str, Path], strict: bool) -> Texts:
    texts: list[str] = []
    labels: list[int] = []
    skipped: list[str] = []
    for label, (name, path) in enumerate(places.items()):
        found = _of_folder(path) if os.path.isdir(path) else _of_file(path)
        if strict and (empty := [where for where, text in found if not text.strip()]):
            raise InputError(f"texts: {empty[0]} is empty; fill it, or leave it out")
        kept = [text for _, text in found if text.strip()]
        if not kept:
            raise InputError(f"texts: {root} has no text of {name}; add one, or remove the class")
        texts += kept
        labels += [label] * len(kept)
        skipped += [printable(f"{where.removeprefix(f'{root}/')}: empty") for where, text in found if not text.strip()]
    return Texts(texts, np.asarray(labels, np.int64), tuple(places), tuple(skipped))


def _of_folder(folder: Path) -> list[tuple[str, str]]:
    """A text a file, with where it is."""
    files = [path for path in entries(folder, "texts", cure=_CURE) if path.suffix == SUFFIXES[0]]
    return [(str(path), _decoded(path)) for path in files]


def _of_file(path: Path) -> list[tuple[str, str]]:
    """A text a line, with where it is; of plain text, lines without any are no texts."""
    lines = [(f"{path}:{number}", line) for number, line in enumerate(_decoded(path).split("\n"), 1)]
    lines = [(where, line) for where, line in lines if line.strip()]
    return lines if path.suffix == SUFFIXES[0] else [(where, _of_json(where, line)) for where, line in lines]


def _of_json(where: str, line: str) -> str:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"texts: {where} is no JSON; write a string, or an object with a text, on each line"
        ) from error
    text = found.get("text") if isinstance(found, dict) else found
    if not isinstance(text, str):
        raise InputError(
            f'texts: {where} has no text; write a string, or an object such as {{"text": "..."}}, on each line'
        )
    return text


def _decoded(path: Path) -> str:
    content = read_regular(path, "texts", most=MOST_BYTES, cure=_CURE)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"texts: {path} is not UTF-8 (byte {content[error.start]:#04x} at {error.start}); save it as UTF-8"
        ) from error
