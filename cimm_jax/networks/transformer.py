"""Layers of vision transformers: patches and tokens before them become a sequence, pre-norm blocks, a last normalisation."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cimm_jax.networks.layers import ACTIVATIONS, layer_norm
from cimm_jax.numerics.products import product

__all__ = ["INIT", "Block", "BlockSettings", "Embed", "EmbedSettings", "LastNorm", "Readout", "bicubic_matrix"]

INIT = nnx.initializers.truncated_normal(0.02)

Readout = Literal["class", "class and mean", "two tokens"]
"""What becomes the features: the first token, it and the mean of those behind it, or the first two, side by side."""

_BICUBIC = -0.75
"""The free coefficient of the cubic kernel, as PyTorch has it; JAX's and Pillow's is -0.5."""


class BlockSettings(NamedTuple):
    """What blocks differ in.

    Attributes:
      width: length of a token.
      heads: of the attention.
      hidden: width of the layer between the two of the perceptron.
      epsilon: of the normalisations.
      activation: in the perceptron, one of `layers.ACTIVATIONS`.
      query_bias: whether queries, keys and values have a bias.
      layer_scale: whether what is added to tokens is scaled, each channel by its own number.
    """

    width: int
    heads: int
    hidden: int
    epsilon: float
    activation: str = "gelu"
    query_bias: bool = True
    layer_scale: bool = False


class EmbedSettings(NamedTuple):
    """What the beginnings differ in.

    Attributes:
      image: height and width of an image.
      patch: height and width of a patch; what is left at the end of an image is not looked at.
      width: length of a token.
      grid: patches along each side that there are positions for; where images have others, these are resized (bicubic).
      distilled: whether a second token, that of the distillation, stands behind the class token.
      patch_bias: whether the projection of patches has a bias.
      norm_epsilon: of a normalisation of the tokens; None leaves it out.
    """

    image: int
    patch: int
    width: int
    grid: int
    distilled: bool = False
    patch_bias: bool = True
    norm_epsilon: float | None = None


def bicubic_matrix(old: int, new: int) -> np.ndarray:
    """The linear map that resizes a row of numbers as PyTorch's `interpolate(mode="bicubic")` does, shape (new, old).

    Centres are kept and edges repeated; where rows become shorter, nothing is smoothed.
    """
    places = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(places).astype(int) - 1
    matrix = np.zeros((new, old))
    for offset in range(4):
        distance = np.abs(places - first - offset)
        near = ((_BICUBIC + 2) * distance - (_BICUBIC + 3)) * distance**2 + 1
        far = ((distance - 5) * distance + 8) * distance * _BICUBIC - 4 * _BICUBIC
        weight = np.where(distance <= 1, near, far)
        np.add.at(matrix, (np.arange(new), np.clip(first + offset, 0, old - 1)), weight)
    return matrix


def _dense(inputs: int, outputs: int, rngs: nnx.Rngs, *, bias: bool = True) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, use_bias=bias, kernel_init=INIT, rngs=rngs)


class Embed(nnx.Module):
    """Patches become tokens; the class token goes first; each gets its position's embedding."""

    def __init__(self, settings: EmbedSettings, *, rngs: nnx.Rngs):
        patch, width = (settings.patch, settings.patch), settings.width
        self.patches = nnx.Conv(
            3, width, patch, strides=patch, padding="VALID", use_bias=settings.patch_bias, kernel_init=INIT, rngs=rngs
        )
        self.class_token = nnx.Param(jnp.zeros((1, 1, width), jnp.float32))
        self.distillation_token = nnx.data(
            nnx.Param(jnp.zeros((1, 1, width), jnp.float32)) if settings.distilled else None
        )
        self.grids = (settings.grid, settings.image // settings.patch)
        tokens = 1 + settings.distilled + settings.grid**2
        self.position = nnx.Param(INIT(rngs.params(), (1, tokens, width), jnp.float32))
        epsilon = settings.norm_epsilon
        self.norm = nnx.data(None if epsilon is None else layer_norm(width, epsilon, rngs=rngs))

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, image, image, 3) -> (N, tokens, width); the same in training."""
        del training
        y = self.patches(x)
        y = y.reshape(len(y), -1, y.shape[-1])
        first = [token[...] for token in (self.class_token, self.distillation_token) if token is not None]
        positions = self._positions(len(first))
        y = jnp.concatenate([*(jnp.broadcast_to(token, (len(y), 1, y.shape[-1])) for token in first), y], axis=1)
        y = y + jnp.broadcast_to(positions, (len(y), *positions.shape[1:]))
        return y if self.norm is None else self.norm(y)

    def _positions(self, before: int) -> jax.Array:
        """Embeddings of the positions of all tokens, of which so many stand before the patches."""
        (old, new), stored = self.grids, self.position[...]
        if old == new:
            return stored
        resize = jnp.asarray(bicubic_matrix(old, new), stored.dtype)
        of_patches = stored[0, before:].reshape(old, old, -1)
        rows = product(resize, of_patches.reshape(old, -1)).reshape(new, old, -1)
        both = product(resize, rows.swapaxes(0, 1).reshape(old, -1)).reshape(new, new, -1).swapaxes(0, 1)
        return jnp.concatenate([stored[:, :before], both.reshape(1, new * new, -1)], axis=1)


class Block(nnx.Module):
    """Attention, then a perceptron of two layers, each on normalised tokens and added to what it was given."""

    def __init__(self, settings: BlockSettings, *, rngs: nnx.Rngs):
        width, bias = settings.width, settings.query_bias
        self.heads, self.activation = settings.heads, settings.activation
        self.norm1 = layer_norm(width, settings.epsilon, rngs=rngs)
        self.query = _dense(width, width, rngs, bias=bias)
        self.key = _dense(width, width, rngs, bias=bias)
        self.value = _dense(width, width, rngs, bias=bias)
        self.out = _dense(width, width, rngs)
        self.norm2 = layer_norm(width, settings.epsilon, rngs=rngs)
        self.up = _dense(width, settings.hidden, rngs)
        self.down = _dense(settings.hidden, width, rngs)
        self.scale1, self.scale2 = (
            nnx.data(nnx.Param(jnp.ones((width,), jnp.float32)) if settings.layer_scale else None) for _ in range(2)
        )

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, tokens, width) -> the same; the same in training."""
        del training
        x = x + _scaled(self._attention(self.norm1(x)), self.scale1)
        return x + _scaled(self.down(ACTIVATIONS[self.activation](self.up(self.norm2(x)))), self.scale2)

    def _attention(self, x: jax.Array, there: jax.Array | None = None) -> jax.Array:
        """To all tokens, or to those where `there`, shape (N, tokens), is not zero."""

        def by_head(layer: nnx.Linear) -> jax.Array:
            return layer(x).reshape(*x.shape[:2], self.heads, -1)

        query, key, value = map(by_head, (self.query, self.key, self.value))  # (N, tokens, heads, length)
        scores = jnp.einsum("nqhd,nkhd->nhqk", query, key) / query.shape[-1] ** 0.5
        if there is not None:
            # Of a row without any token all scores are alike, and not infinite.
            scores = jnp.where(there[:, None, None] > 0, scores, jnp.finfo(scores.dtype).min)
        mixed = jnp.einsum("nhqk,nkhd->nqhd", jax.nn.softmax(scores), value)
        return self.out(mixed.reshape(x.shape))


class LastNorm(nnx.Module):
    """The tokens that become features, normalised."""

    def __init__(self, width: int, epsilon: float, readout: Readout = "class", *, rngs: nnx.Rngs):
        self.readout = readout
        self.norm = layer_norm(width, epsilon, rngs=rngs)

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, tokens, width) -> (N, width), or twice as many features; the same in training."""
        del training
        if self.readout == "class":
            return self.norm(x[:, 0])
        if self.readout == "two tokens":
            return self.norm(x[:, :2]).reshape(len(x), -1)
        y = self.norm(x)
        return jnp.concatenate([y[:, 0], y[:, 1:].mean(1)], axis=1)


def _scaled(x: jax.Array, scale: nnx.Param | None) -> jax.Array:
    return x if scale is None else x * scale[...][None, None]
