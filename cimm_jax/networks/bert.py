"""BERT's encoder (Devlin et al., 2018) as a sentence encoder (Reimers and Gurevych, 2019): layers, then one row a text.

    tokens = norm(word + position + kind)
    tokens = norm(tokens + attention(tokens)),   tokens = norm(tokens + perceptron(tokens))     in every layer
    features = the mean of the tokens that there are, over its norm

The features are what the publisher's `encode` returns.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.key_maps import PLAIN, Entry, KeyMap, Path, layer_norm_entries, linear_entries
from cimm_jax.networks.layers import ACTIVATIONS, layer_norm, linear_head
from cimm_jax.networks.tokens import Tokens, first_and_mean, marked, mean_token, read_ids, unit_rows
from cimm_jax.networks.transformer import INIT, Block, BlockSettings

__all__ = ["MINILM_L6", "BertConfig", "Layer", "Readout", "SentencePool", "WordEmbed"]

Readout = Literal["mean", "class"]
"""What becomes the features: the mean of the tokens, or the first one, that of the class."""


@dataclass(frozen=True)
class BertConfig:
    """A sentence encoder of BERT's architecture. Cut points: embeddings, layer0, layer1, ... , pool, features.

    Attributes:
      positions: that there are embeddings of.
      depth: layers.
      block: what they are, their width and normalisations among it.
      preprocess: what texts go through first.
      readout: what becomes the features.
      unit: whether features are rows over their norm.
      kinds: of tokens, of which all have the first: one text is no pair.
      prefix: how keys begin.
      names: key map for exports.
    """

    positions: int
    depth: int
    block: BlockSettings
    preprocess: Tokens
    readout: Readout = "mean"
    unit: bool = True
    kinds: int = 2
    prefix: str = ""
    names: str = "transformers"

    @property
    def classes(self) -> int:
        """None: a head is fitted."""
        return 0

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """The names of the transformers library; its pooler is not looked at."""
        others = (f"{self.prefix}embeddings.position_ids", f"{self.prefix}pooler.", "cls.", "classifier.")
        return (KeyMap("transformers", _entries, others=others),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Any number of tokens."""
        return (None,)

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters (truncated normal, deviation 0.02)."""
        parts: dict[str, nnx.Module] = {"embeddings": WordEmbed(self, rngs=rngs)}
        for number in range(self.depth):
            parts[f"layer{number}"] = Layer(self.block, rngs=rngs)
        parts["pool"] = SentencePool(self.readout, self.unit)
        return Backbone(self, parts, linear_head(self.block.width, 0, rngs=rngs))


class WordEmbed(nnx.Module):
    """Ids become tokens: the sum of the embeddings of a word, its position and the first kind, normalised."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width = config.block.width

        def table(rows: int) -> nnx.Param:
            return nnx.Param(INIT(rngs.params(), (rows, width), jnp.float32))

        self.words, self.position, self.kind = map(
            table, (config.preprocess.vocabulary, config.positions, config.kinds)
        )
        self.norm = layer_norm(width, config.block.epsilon, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Ids (N, L), as `Tokens` gives them -> marked tokens (N, L, width + 1); the same in training."""
        del training
        ids, there = read_ids(x)
        shared = self.position[...][: x.shape[1]] + self.kind[...][:1]
        return marked(self.norm(self.words[...][ids] + shared[None]), there)

    def pooled(self, x: jax.Array) -> jax.Array:
        """Of what it makes, a row a text."""
        return first_and_mean(x)


class Layer(Block):
    """Attention to the tokens that there are, then a perceptron; each is added to what it was given, and the sum normalised."""

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Marked tokens (N, L, width + 1) -> the same; the same in training."""
        del training
        tokens, there = x[..., :-1], x[..., -1]
        tokens = self.norm1(tokens + self._attention(tokens, there))
        tokens = self.norm2(tokens + self.down(ACTIVATIONS[self.activation](self.up(tokens))))
        return marked(tokens, there)

    def pooled(self, x: jax.Array) -> jax.Array:
        """Of what it makes, a row a text."""
        return first_and_mean(x)


class SentencePool(nnx.Module):
    """Marked tokens become one row a text."""

    def __init__(self, readout: Readout, unit: bool):
        self.readout, self.unit = readout, unit

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, L, width + 1) -> (N, width); the same in training."""
        del training
        rows = mean_token(x) if self.readout == "mean" else x[:, 0, :-1]
        return unit_rows(rows) if self.unit else rows


MINILM_L6 = BertConfig(
    positions=512,
    depth=6,
    block=BlockSettings(width=384, heads=12, hidden=1536, epsilon=1e-12),
    preprocess=Tokens(length=256, vocabulary=30_522),
)
"""all-MiniLM-L6-v2 of the sentence-transformers library."""


_EMBEDDINGS: Path = ("parts", "embeddings")


def _entries(config: BertConfig) -> list[Entry]:
    key = f"{config.prefix}embeddings"
    tables = {"word_embeddings": "words", "position_embeddings": "position", "token_type_embeddings": "kind"}
    entries = [Entry(f"{key}.{theirs}.weight", ((*_EMBEDDINGS, ours),), PLAIN) for theirs, ours in tables.items()]
    entries += layer_norm_entries(f"{key}.LayerNorm", (*_EMBEDDINGS, "norm"))
    for number in range(config.depth):
        key, path = f"{config.prefix}encoder.layer.{number}", ("parts", f"layer{number}")
        layers = {f"attention.self.{name}": name for name in ("query", "key", "value")}
        layers |= {"attention.output.dense": "out", "intermediate.dense": "up", "output.dense": "down"}
        for theirs, ours in layers.items():
            entries += linear_entries(f"{key}.{theirs}", (*path, ours))
        for theirs, ours in {"attention.output": "norm1", "output": "norm2"}.items():
            entries += layer_norm_entries(f"{key}.{theirs}.LayerNorm", (*path, ours))
    return entries
