"""Static embeddings: a table of word vectors, whose mean over a text's words is its features. There are no layers to train."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.bert import SentencePool
from cimm_jax.networks.key_maps import PLAIN, Entry, KeyMap
from cimm_jax.networks.layers import linear_head
from cimm_jax.networks.tokens import Tokens, marked, mean_token, read_ids
from cimm_jax.networks.transformer import INIT

__all__ = ["WORDLLAMA", "VectorTable", "WordVectorConfig"]


@dataclass(frozen=True)
class WordVectorConfig:
    """A table of word vectors. Cut points: embeddings, pool, features.

    Attributes:
      width: length of a vector, which is the number of features.
      preprocess: what texts go through first.
      names: key map for exports.
    """

    width: int
    preprocess: Tokens
    names: str = "wordllama"

    @property
    def classes(self) -> int:
        """None: a head is fitted."""
        return 0

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """The publisher's name of the table."""
        return (KeyMap("wordllama", _entries),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Any number of tokens."""
        return (None,)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters (truncated normal, deviation 0.02)."""
        parts = {"embeddings": VectorTable(self, rngs=rngs), "pool": SentencePool("mean", unit=False)}
        return Backbone(self, parts, linear_head(self.width, 0, rngs=rngs))


class VectorTable(nnx.Module):
    """Ids become the vectors of their words."""

    def __init__(self, config: WordVectorConfig, *, rngs: nnx.Rngs):
        self.words = nnx.Param(INIT(rngs.params(), (config.preprocess.vocabulary, config.width), jnp.float32))

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Ids (N, L), as `Tokens` gives them -> marked vectors (N, L, width + 1); the same in training."""
        del training
        ids, there = read_ids(x)
        return marked(self.words[...][ids], there)

    def pooled(self, x: jax.Array) -> jax.Array:
        """Of what it makes, a row a text."""
        return mean_token(x)


WORDLLAMA = WordVectorConfig(width=256, preprocess=Tokens(length=4096, vocabulary=32_000, special=False, large=False))
"""wordllama's table for Llama 2's tokens, 256 wide; the publisher knows no longest text."""


def _entries(config: WordVectorConfig) -> list[Entry]:
    del config
    return [Entry("embedding.weight", (("parts", "embeddings", "words"),), PLAIN)]
