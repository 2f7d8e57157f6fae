"""An attacker within a step of training: what the features of blocks become after some steps of fine-tuning."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from cimm_jax.networks import functional
from cimm_jax.networks.functional import Split
from cimm_jax.numerics.penalty import InnerAttack

__all__ = ["attacked_features"]


def attacked_features(
    parts: Split, tail: Any, cut: str, attack: InnerAttack, turn: jax.Array, own: tuple[jax.Array, jax.Array], x: Any
) -> jax.Array:
    """Features of shape (B, d) of the tail that an attacker has moved.

    To first order: their derivative is that at the tail moved, passed on to the tail given (Nichol et al. 2018). Batches are
    normalised by their own statistics, as the attackers do who get furthest.

    Args:
      parts: the network, split at the cut.
      tail: its parameters now.
      cut: where.
      attack: how the attacker moves.
      turn: a scalar, which of the rates it takes.
      own: the attacker's activations at the cut and targets.
      x: activations whose features are looked at.
    """

    def features(tail: Any, x: jax.Array) -> jax.Array:
        model = functional.merge(parts._replace(tail=tail))
        model.train()
        return model.tail(x, cut)

    rate = jnp.asarray(attack.rates, own[0].dtype)[turn % len(attack.rates)]

    def moved(_, tail: Any) -> Any:
        gradient = jax.grad(lambda at: attack.climbed(features(at, own[0]), own[1]))(tail)
        length = optax.tree.norm(gradient)
        scale = jnp.where(length > 0, rate / jnp.where(length > 0, length, 1), 0)
        return jax.tree.map(lambda at, slope: at + scale * slope, tail, gradient)

    start = jax.lax.stop_gradient(tail)
    end = jax.lax.fori_loop(0, attack.steps, moved, start)
    return features(jax.tree.map(lambda at, before, after: at + (after - before), tail, start, end), x)
