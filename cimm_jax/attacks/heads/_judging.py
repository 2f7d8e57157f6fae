"""Scores become what a trace reports."""

import jax
import jax.numpy as jnp

from cimm_jax.attacks.protocol import Target, Trace, accuracy
from cimm_jax.numerics import losses


def class_loss(classes: int) -> losses.Loss:
    """The loss of class probabilities for targets with so many columns: softmax, and logistic for a single one."""
    return losses.softmax if classes > 1 else losses.logistic


def judged(loss: losses.Loss, fitted: jax.Array, heldout: jax.Array, target: Target) -> Trace:
    """A trace of scalars, not diverged, of scores on the rows fitted and on held-out ones, both (N, C)."""
    return Trace(
        loss(fitted, target.fit.y),
        loss(heldout, target.heldout.y),
        accuracy(heldout, target.heldout.y),
        jnp.full((), jnp.nan, fitted.dtype),
        jnp.zeros((), bool),
    )


def nothing_learned(loss: losses.Loss, target: Target) -> Trace:
    """The same of scores that are zero."""
    return judged(loss, jnp.zeros_like(target.fit.y), jnp.zeros_like(target.heldout.y), target)


def at_every_record(trace: Trace, recorded: tuple[int, ...]) -> Trace:
    """A trace of scalars, of an attack that is done after one step, as one of shape (records,)."""
    return jax.tree.map(lambda value: jnp.broadcast_to(value, (len(recorded),)), trace)
