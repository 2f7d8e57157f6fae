"""The head that fine-tuning starts from: a new one, the published one, or one solved for."""

import math

import jax
import jax.numpy as jnp

from cimm_jax.attacks.adaptive import ridge_probe
from cimm_jax.attacks.victim import BATCH_ROWS, Tunable, Victim, width_of
from cimm_jax.closed_form.heads import Head
from cimm_jax.errors import InputError
from cimm_jax.numerics.products import product

__all__ = ["HEADS", "MOST_SOLVED", "SOLVED_SCALE", "check_head", "first_head"]

HEADS = ("new", "kept", "solved")
"""Zeros; the first columns of the published head; a ridge regression on the published features, solved in closed form."""

MOST_SOLVED = 1024
"""Rows that a head is solved on, at most."""

SOLVED_SCALE = 1.0
"""What a solved head's outputs, which approach -1 and +1, are multiplied by to be logits."""


def first_head(name: str, tunable: Tunable, classes: int) -> tuple[jax.Array, jax.Array]:
    """Kernel (k, classes) and bias (classes,) on the published features, mapped if there is a map.

    Args:
      name: one of `HEADS`, which `check_head` has found possible.
      tunable: the network and the attacker's rows.
      classes: how many classes they are of.
    """
    if name == "solved":
        return _solved(tunable, classes)
    if name == "kept":
        head = _published(tunable.victim)
        return jnp.asarray(head.kernel)[:, :classes], jnp.asarray(head.bias)[:classes]
    dtype = jnp.asarray(tunable.victim.fit_x).dtype
    return jnp.zeros((width_of(tunable.victim), classes), dtype), jnp.zeros(classes, dtype)


def check_head(name: str, victim: Victim, classes: int) -> None:
    """Raises `InputError` if a head is to be kept that is not there, or that has fewer outputs than there are classes."""
    if name == "kept" and (outputs := _published(victim).kernel.shape[1]) < classes:
        raise InputError(f"classes: the published head has {outputs} outputs to keep, got {classes}; take a new head")


def _published(victim: Victim) -> Head:
    if victim.head is None:
        raise InputError("victim.head: is None, so there is none to keep; give it, or take a new head")
    return victim.head


def _solved(tunable: Tunable, classes: int) -> tuple[jax.Array, jax.Array]:
    """`ridge_probe` on centred features and targets of the attacker's rows; of many rows, on some, evenly spaced."""
    most = min(MOST_SOLVED, len(tunable.victim.order))
    batch = min(BATCH_ROWS, most)
    solved = jnp.minimum(tunable.count, most)
    position = jnp.arange(math.ceil(most / batch) * batch, dtype=jnp.int32)
    numbers = jnp.where(position < solved, position * tunable.count // solved, 0)
    published, stored = tunable.published, tunable.served_statistics(tunable.published)

    def look(i: jax.Array, found: jax.Array) -> jax.Array:
        x, _ = tunable.rows(jax.lax.dynamic_slice_in_dim(numbers, i * batch, batch))
        return jax.lax.dynamic_update_slice_in_dim(found, tunable.features(published, stored, x), i * batch, 0)

    empty = jnp.zeros((len(numbers), width_of(tunable.victim)), jnp.asarray(tunable.victim.fit_x).dtype)
    features = jax.lax.fori_loop(0, -(-solved // batch), look, empty)
    targets = 2 * jax.nn.one_hot(tunable.rows(numbers)[1], classes, dtype=features.dtype) - 1
    counts = (position < solved)[:, None]

    def centred(values: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean = jnp.where(counts, values, 0).sum(0, keepdims=True) / solved.astype(values.dtype)
        return jnp.where(counts, values - mean, 0), mean

    (x, x_mean), (y, y_mean) = centred(features), centred(targets)
    kernel = ridge_probe(x, y)
    return SOLVED_SCALE * kernel, SOLVED_SCALE * (y_mean - product(x_mean, kernel))[0]
