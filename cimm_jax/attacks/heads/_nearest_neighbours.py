"""The head that learns nothing: the classes of the nearest rows."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cimm_jax.attacks.heads._features import standardised_target
from cimm_jax.attacks.heads._judging import at_every_record, judged
from cimm_jax.attacks.protocol import Attack, Target, Trace, accuracy, check_records
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses
from cimm_jax.numerics.products import product

_ROWS_AT_ONCE = 256


def nearest_neighbours(*, steps: int = 1, record_at: Sequence[int] | None = None, most: int = 16) -> Attack:
    """The k nearest rows of those fitted vote, by the Euclidean distance of standardised features; the rate is k.

    Rates are rounded to 1 <= k <= `most`; there are never more neighbours than rows. A score is the mean of the neighbours'
    targets; of classes with equally many votes, the one with the closest neighbour wins. The loss on the rows fitted is that of
    each with itself left out. Both are squared losses. `vmap` over rates looks for neighbours once. The key is not used, and
    it is done after one step: every record is the same.

    Args:
      steps: to report, at least 1.
      record_at: ascending numbers of steps to record; None spaces 40 of them evenly in log.
      most: the largest k that a rate can ask for, at least 1.

    Raises:
      InputError: if a number is out of range.
    """
    recorded = check_records(record_at, steps)
    if most < 1:
        raise InputError(f"most: needs at least 1 neighbour, got {most}")

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        del key
        target = standardised_target(target)
        x, y = target.fit
        k = jnp.clip(jnp.round(rate), 1, most)
        own, none = jnp.arange(len(x), dtype=jnp.int32), jnp.full(len(target.heldout.x), -1, jnp.int32)
        of_fitted = y[_nearest(x, own, x, min(most, len(x) - 1))]
        of_heldout = y[_nearest(target.heldout.x, none, x, min(most, len(x)))]
        trace = judged(losses.squared, _mean(of_fitted, k), _mean(of_heldout, k), target)
        right = accuracy(_votes(of_heldout, k), target.heldout.y)
        return at_every_record(trace._replace(accuracy=right), recorded)

    return attack


def _nearest(rows: jax.Array, own: jax.Array, x: jax.Array, count: int) -> jax.Array:
    """Numbers (M, count) of the rows of x, (N, d), nearest to each of `rows`, (M, d), nearest first; own[m] is left out."""
    squares, numbers = jnp.sum(x**2, axis=1), jnp.arange(len(x), dtype=jnp.int32)

    def of_one(given: tuple[jax.Array, jax.Array]) -> jax.Array:
        row, itself = given
        distances = squares - 2 * product(x, row)  # but for |row|^2, which changes no order
        return jax.lax.top_k(jnp.where(numbers == itself, -jnp.inf, -distances), count)[1]

    return jax.lax.map(of_one, (rows, own), batch_size=_ROWS_AT_ONCE)


def _mean(nearest: jax.Array, k: jax.Array) -> jax.Array:
    """Mean targets (M, C) of the first k of each row's neighbours, of which `nearest` are the targets, (M, count, C)."""
    chosen = (jnp.arange(nearest.shape[1], dtype=k.dtype) < k).astype(nearest.dtype)
    return product(chosen, nearest) / jnp.sum(chosen)


def _votes(nearest: jax.Array, k: jax.Array) -> jax.Array:
    """The first k neighbours' votes; halves, quarters, ... of a vote decide between equal counts, and never between others."""
    order = jnp.arange(nearest.shape[1], dtype=k.dtype)
    return product(jnp.where(order < k, 1 + 0.5 ** (1 + order), 0), nearest)
