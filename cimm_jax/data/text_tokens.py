"""Texts as token ids: tokenized once, cut where the encoder's length ends, padded to one length."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cimm_jax.errors import InputError, one_line
from cimm_jax.files import read_regular

__all__ = ["PADDING", "SHORTEST", "TokenRows", "Tokenized", "padded_length", "tokenized"]

PADDING = -1
"""In the place of a token that is not there: no tokenizer's id."""

SHORTEST = 16
"""Tokens; lengths are this times a power of two, so that few programs are compiled."""

_MOST_BYTES = 1 << 28
_CURE = "give the tokenizer.json of the network's publisher"


class Tokenized(NamedTuple):
    """What a tokenizer made of texts.

    Attributes:
      ids: of each text, int32 of shape (tokens,).
      cut: whether each was longer than the encoder takes, shape (N,), bool.
    """

    ids: list[np.ndarray]
    cut: np.ndarray


class TokenRows:
    """Token ids with random access, as `image_set.Pixels` has it: each int32 of shape (length,), with `PADDING` at the end.

    Attributes:
      ids: of each text, as long as it is.
      length: of every row.
    """

    def __init__(self, ids: Sequence[np.ndarray], length: int):
        self.ids, self.length = ids, length

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> np.ndarray:
        row = np.full(self.length, PADDING, np.int32)
        found = self.ids[int(index)]
        row[: len(found)] = found
        return row

    def original(self, index: int) -> AbstractContextManager[np.ndarray]:
        """Raises `InputError`: nobody augments texts."""
        raise InputError(f"views: text {index} has no other views than itself; leave it out")


def padded_length(longest: int, most: int) -> int:
    """The first of `SHORTEST`, twice that, and so on that is enough for the longest text, and at most `most`."""
    length = SHORTEST
    while length < longest:
        length *= 2
    return min(length, most)


def tokenized(texts: Sequence[str], tokenizer: Path, *, length: int, vocabulary: int, special: bool) -> Tokenized:
    """Token ids of texts.

    Args:
      texts: N texts.
      tokenizer: a tokenizer.json, as the package tokenizers writes it.
      length: most tokens of a text, those that begin and end it among them.
      vocabulary: ids that the network knows.
      special: whether to add the tokens that begin and end a text.

    Raises:
      InputError: if the package tokenizers is missing, or the file is no tokenizer or is of another network.
    """
    made = _tokenizer(tokenizer)
    made.no_padding()
    made.enable_truncation(length)
    found = made.encode_batch(list(texts), add_special_tokens=special)
    ids = [np.asarray(one.ids, np.int32) for one in found]
    largest = max((int(row.max()) for row in ids if len(row)), default=0)
    if largest >= vocabulary:
        raise InputError(
            f"weights: {tokenizer} has token {largest}, and the network knows {vocabulary:,} tokens; {_CURE}"
        )
    return Tokenized(ids, np.asarray([bool(one.overflowing) for one in found], bool))


def _tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("model: texts need the package tokenizers; pip install 'cimm_jax[text]'") from error
    # Its own threads would only wait for each other behind those of the trunk.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    content = read_regular(path, "weights", most=_MOST_BYTES, cure=_CURE)
    try:
        return Tokenizer.from_str(content.decode())
    except Exception as error:  # the package raises its base class alone
        raise InputError(f"weights: {path} is no tokenizer ({one_line(error)}); {_CURE}") from error
