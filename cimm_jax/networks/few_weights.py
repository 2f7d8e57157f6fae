"""Chooses the few weights that move (`numerics.trained_weights.FewWeights`)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from cimm_jax.numerics.trained_weights import FewWeights

__all__ = ["is_chosen_at", "more_chosen", "none_chosen"]

_LEAST = 1e-8
"""Added to what the ratio is divided by."""


def none_chosen(params: Any) -> Any:
    """False for every weight."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, bool), params)


def is_chosen_at(few: FewWeights, turn: int, total: int) -> bool:
    """Whether a round begins at this step of so many."""
    every = max(1, total // (2 * few.rounds))
    return turn % every == 0 and turn // every < few.rounds


def more_chosen(few: FewWeights, chosen: Any, wanted: Any, unwanted: Any) -> Any:
    """The weights chosen until now and those of one more round: with the largest |wanted| / |unwanted|.

    Biases and scales, which have one axis, are never chosen, nor is a weight that nothing wants to move.

    Args:
      few: how many.
      chosen: bool, of each weight.
      wanted: the penalties' gradient.
      unwanted: the primary loss's.
    """

    def score(already: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        ratio = jnp.abs(up) / (jnp.abs(down) + _LEAST)
        return jnp.where(already, 0, ratio) if up.ndim > 1 else jnp.zeros_like(ratio)

    scores, back = ravel_pytree(jax.tree.map(score, chosen, wanted, unwanted))
    count = max(1, round(few.share * sum(x.size for x in jax.tree.leaves(wanted) if x.ndim > 1) / few.rounds))
    best, places = jax.lax.top_k(scores, count)
    new = back(jnp.zeros_like(scores).at[places].set(jnp.where(best > 0, 1, 0)))
    return jax.tree.map(lambda already, now: already | (now > 0), chosen, new)
