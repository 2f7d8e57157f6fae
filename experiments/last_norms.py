"""A transformer whose last normalisation does not learn, or is left out: what tells what the normalisation does in training."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cimm_jax.closed_form.fitted_head import fit_head
from cimm_jax.networks import functional
from cimm_jax.networks.backbone import Backbone
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.head import with_head
from cimm_jax.networks.tails import tail_features
from cimm_jax.networks.transformer import LastNorm

NORM = "norm"
"""The part's name."""


class KeptNorm(nnx.Module):
    """A last normalisation of the class token with the scale and shift of another, which are no parameters."""

    def __init__(self, norm: nnx.LayerNorm):
        self.scale, self.shift = (nnx.BatchStat(of[...]) for of in (norm.scale, norm.bias))  # pyright: ignore
        self.epsilon = norm.epsilon

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, tokens, width) -> (N, width); the same in training."""
        del training
        token = x[:, 0]
        centred = token - token.mean(-1, keepdims=True)
        normal = centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon)
        return normal * self.scale[...][None] + self.shift[...][None]


class ClassToken(nnx.Module):
    """The class token as it is."""

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, tokens, width) -> (N, width); the same in training."""
        del training
        return x[:, 0]


def with_norm_kept(network: Backbone) -> Backbone:
    """The same network, of the same outputs; training leaves the last normalisation as it is."""
    return _with_last(network, KeptNorm(_norm(network)))


def without_norm(network: Backbone, cut: str, primary: Labelled) -> Backbone:
    """The network without its last normalisation, and with a head fitted to the class tokens.

    Args:
      network: a vision transformer whose features are the class token.
      cut: before the normalisation.
      primary: activations there and labels, to fit the head.
    """
    bare = _with_last(network, ClassToken())
    tokens = tail_features(functional.split(bare, cut), primary.x, cut)
    return with_head(bare, fit_head(tokens, primary.labels, network.config.classes))


def hyperplane_normal(network: Backbone) -> np.ndarray:
    """The unit normal of the hyperplane that the last normalisation puts features on, shape (width,).

    With n the normalised token, features are gamma n + beta and the entries of n sum to zero, so (features - beta) / gamma do.
    """
    normal = 1 / np.asarray(_norm(network).scale[...], np.float64)  # pyright: ignore
    return normal / np.linalg.norm(normal)


def _norm(network: Backbone) -> nnx.LayerNorm:
    last: LastNorm = network.parts[NORM]  # pyright: ignore
    return last.norm


def _with_last(network: Backbone, last: nnx.Module) -> Backbone:
    parts = {name: network.parts[name] for name in network.cuts[:-1]}
    return Backbone(network.config, {**parts, NORM: last}, network.head)
