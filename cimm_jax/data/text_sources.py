"""Texts from wherever they are, as token ids in the place of images: one function that looks at what it is given."""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cimm_jax.data.class_list import ClassList, choose
from cimm_jax.data.image_set import ImageSet, SplitImages
from cimm_jax.data.text_folder import SplitTexts, Texts, load_text_folder
from cimm_jax.data.text_tokens import TokenRows, padded_length, tokenized
from cimm_jax.errors import InputError, one_line
from cimm_jax.files import check_name

__all__ = ["NEWSGROUPS", "load_newsgroups", "load_texts", "of_one_length"]

NEWSGROUPS = "newsgroups"
"""Names the 20 newsgroups of scikit-learn; a folder of that name is ./newsgroups."""

_PARTS = ("train", "test")
_TELLING = ("headers", "footers", "quotes")


def load_texts(
    source: str,
    *,
    tokenizer: Path,
    length: int,
    vocabulary: int,
    special: bool,
    only: ClassList | None = None,
    rows: int | None = None,
    strict: bool = False,
) -> SplitImages:
    """A folder of texts (`text_folder`), or "newsgroups", as token ids; `of_one_length` makes their length one.

    Args:
      source: which.
      tokenizer: the network's tokenizer.json.
      length: most tokens of a text; what is longer is cut.
      vocabulary: tokens that the network knows.
      special: whether to add the tokens that begin and end a text.
      only: the classes to use; all if None.
      rows: of the newsgroups, at most how many texts of each part.
      strict: refuse empty texts, which are skipped otherwise.

    Raises:
      InputError: as `load_text_folder`, `choose` and `tokenized`, or if the newsgroups cannot be downloaded.
    """
    if rows is not None and rows < 2:
        raise InputError(f"image_rows: needs at least 2, got {rows}")
    check_name(source, "texts")
    if source == NEWSGROUPS:
        texts = load_newsgroups(strict=strict)
    elif rows is not None:
        raise InputError(f"image_rows: {source} is a folder of texts, which is taken whole; leave it out")
    else:
        texts = load_text_folder(Path(source), strict=strict)

    def ids(part: Texts) -> ImageSet:
        chosen = choose(part.labels, part.classes, only, rows=rows)
        found = tokenized(
            [part.texts[index] for index in chosen.indices],
            tokenizer,
            length=length,
            vocabulary=vocabulary,
            special=special,
        )
        digest = hashlib.sha256("\n".join(chosen.classes).encode())
        for row, label in zip(found.ids, chosen.labels, strict=True):
            digest.update(np.asarray([label, len(row)], np.int64).tobytes() + row.tobytes())
        longest = padded_length(max(map(len, found.ids)), length)
        return ImageSet(
            TokenRows(found.ids, longest),
            chosen.labels,
            chosen.classes,
            digest.hexdigest(),
            part.skipped,
            cut_short=found.cut,
        )

    return SplitImages(ids(texts.train), None if texts.heldout is None else ids(texts.heldout))


def of_one_length(tasks: Mapping[str, SplitImages]) -> dict[str, SplitImages]:
    """The same texts in rows of one length, the longest there is: then one program serves all; their checksums say it."""
    sets = [part for split in tasks.values() for part in split if part is not None]
    length = max(_rows(part).length for part in sets)

    def padded(part: ImageSet) -> ImageSet:
        digest = hashlib.sha256(f"{part.sha256} {length} tokens".encode()).hexdigest()
        return dataclasses.replace(part, pixels=TokenRows(_rows(part).ids, length), sha256=digest)

    return {
        task: SplitImages(padded(train), None if heldout is None else padded(heldout))
        for task, (train, heldout) in tasks.items()
    }


def _rows(part: ImageSet) -> TokenRows:
    assert isinstance(part.pixels, TokenRows)  # as `load_texts` makes them
    return part.pixels


def load_newsgroups(*, strict: bool = False) -> SplitTexts:
    """The 20 newsgroups as scikit-learn has them, downloaded into its own folder unless they are there.

    Headers, footers and quotes are left out: they say the newsgroup by more than its text.

    Args:
      strict: refuse empty texts, which are skipped otherwise.

    Raises:
      InputError: if they cannot be downloaded or, if strict, a text is empty.
    """
    from sklearn.datasets import fetch_20newsgroups

    try:
        found: list[Any] = [fetch_20newsgroups(subset=part, remove=_TELLING) for part in _PARTS]
    except (OSError, EOFError, ValueError) as error:  # unreachable, broken off, damaged in its folder
        raise InputError(
            f"texts: scikit-learn cannot download the 20 newsgroups ({one_line(error)}); connect to a network, put them in "
            "$SCIKIT_LEARN_DATA, or give a folder of texts"
        ) from error
    parts = []
    for part, bunch in zip(_PARTS, found, strict=True):
        there = [index for index, text in enumerate(bunch.data) if text.strip()]
        names = tuple(f"{part} {index}: empty" for index, text in enumerate(bunch.data) if not text.strip())
        if strict and names:
            raise InputError(f"texts: newsgroups, {names[0]}; leave out strict")
        labels = np.asarray(bunch.target, np.int64)[there]
        parts.append(Texts([bunch.data[index] for index in there], labels, tuple(bunch.target_names), names))
    return SplitTexts(*parts)
