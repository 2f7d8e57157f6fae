"""From token ids to what a text network takes, and activations of tokens, which say in a last channel which tokens are there.

Texts are padded to one length L, with `PADDING` in the place of ids. Behind the embeddings an array has the shape
(N, L, width + 1): in the last channel, 1 where there is a token and 0 where there is none, so that every part knows, and a row
of zeros, with which batches are filled up, has no tokens.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.data.text_tokens import PADDING
from cimm_jax.errors import InputError

__all__ = ["SMALLEST_NORM", "Tokens", "first_and_mean", "marked", "mean_token", "read_ids", "unit_rows"]

SMALLEST_NORM = 1e-12
"""What a row is divided by at least, as PyTorch's `normalize` has it."""


@dataclass(frozen=True)
class Tokens:
    """What texts go through before a network, in the place of `Preprocess`.

    Attributes:
      length: most tokens of a text; what is longer is cut.
      vocabulary: how many tokens there are embeddings of.
      special: whether the tokenizer adds the tokens that it says begin and end a text.
      large: whether those who fine-tune go through the last blocks only, as with large images.
    """

    length: int
    vocabulary: int
    special: bool = True
    large: bool = True

    inputs: ClassVar[str] = "texts"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input, at its longest."""
        return (self.length,)

    @property
    def described(self) -> str:
        """One kind of input, for messages."""
        return f"texts of up to {self.length} tokens"

    def __call__(self, ids: Any) -> jax.Array:
        """float32 of the shape of `ids`, int32 of shape (N, L): up to 2^24 the same numbers, in the parameters' dtype.

        Raises:
          InputError: if they have another dtype or shape.
        """
        if ids.dtype != np.int32 or ids.ndim != 2:
            raise InputError(f"texts: need token ids, int32 of shape (N, length), got {ids.dtype} of {ids.shape}")
        return jnp.asarray(ids).astype(jnp.float32)


def read_ids(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ids as a network gets them, shape (N, L), as int32 with 0 for `PADDING`, and where there are tokens, of x's dtype."""
    there = x > PADDING
    return jnp.where(there, x, 0).astype(jnp.int32), there.astype(x.dtype)


def marked(tokens: jax.Array, there: jax.Array) -> jax.Array:
    """Tokens (N, L, width) with the channel that says where there are any, (N, L): shape (N, L, width + 1)."""
    return jnp.concatenate([tokens, there[..., None]], axis=-1)


def mean_token(x: jax.Array) -> jax.Array:
    """The mean of the tokens that there are, of marked tokens (N, L, width + 1): shape (N, width); zero where there is none."""
    there = x[..., -1]
    total = jnp.einsum("nlw,nl->nw", x[..., :-1], there)
    return total / jnp.maximum(there.sum(axis=1), 1)[:, None]


def first_and_mean(x: jax.Array) -> jax.Array:
    """What a head that is put on marked tokens looks at: the first, that of the class, and the mean, shape (N, 2 width)."""
    return jnp.concatenate([x[:, 0, :-1], mean_token(x)], axis=1)


def unit_rows(x: jax.Array) -> jax.Array:
    """Rows over their norm, and rows shorter than `SMALLEST_NORM` over that."""
    squared = jnp.sum(x * x, axis=1, keepdims=True)
    safe = jnp.maximum(squared, SMALLEST_NORM**2)  # a row of zeros has a gradient then
    return x * jax.lax.rsqrt(safe)
