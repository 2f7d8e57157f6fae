"""Texts for tests, and a tokenizer that needs no package: a word is a token, whatever it is."""

import json
from types import SimpleNamespace

import numpy as np

VOCABULARY = 40
WORDS = {"ant": ("leg", "hill", "queen"), "bee": ("wing", "hive", "honey"), "cat": ("paw", "milk", "purr")}
FILLER = ("the", "of", "a", "and", "some")


class WordTokenizer:
    """Of the interface of the package tokenizers what is used."""

    known = (*FILLER, *(word for words in WORDS.values() for word in words))

    def __init__(self):
        self.length = None

    def no_padding(self):
        pass

    def enable_truncation(self, length):
        self.length = length

    def encode_batch(self, texts, *, add_special_tokens):
        ids = [[self._id(word) for word in text.split()] for text in texts]
        if add_special_tokens:
            ids = [[0, *row] for row in ids]
        return [SimpleNamespace(ids=row[: self.length], overflowing=row[self.length :]) for row in ids]

    def _id(self, word):
        return 2 + self.known.index(word) if word in self.known else 1


def sentences(name, count, seed):
    """Of a class: three words of it among others."""
    rng = np.random.default_rng((seed, *name.encode()))
    return [" ".join(rng.permutation([*rng.choice(WORDS[name], 3), *rng.choice(FILLER, 4)])) for _ in range(count)]


def write_texts(folder, names, count=10):
    """train and test, a .jsonl file of each class."""
    for seed, part in enumerate(("train", "test")):
        (folder / part).mkdir(parents=True)
        for name in names:
            lines = (json.dumps({"text": text}) for text in sentences(name, count, seed))
            (folder / part / f"{name}.jsonl").write_text("\n".join(lines))
    return folder
