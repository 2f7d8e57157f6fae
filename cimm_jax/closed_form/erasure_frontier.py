"""Which directions of the harmful labels to erase where not all can go, and what that costs the primary task: exactly.

In coordinates in which the primary covariance is the identity, erasing the span of orthonormal columns V takes tr V^T H V of
the harmful signal H = h h^T away and costs tr V^T P V of the primary signal P = p p^T. At a price, the best V of k columns are
the k leading eigenvectors of H - price P (Ky Fan), for every k at once: one eigenproblem gives a nested sequence of erasers,
and no other subspace of k directions takes more away at the same cost. Raising the price from zero walks along the frontier.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.label_directions import LabelDirections, OwnSignal, orthonormal_range
from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import eigh, qr
from cimm_jax.numerics.inputs import as_array
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import rounding_tolerance

__all__ = ["HALVINGS", "Frontier", "check_loss_budget", "frontier", "within_budget"]

HALVINGS = 40
"""Steps of bisection for the price that a budget asks for."""


class Frontier(NamedTuple):
    """What erasing at most k directions takes and costs, at several prices; row i, column k, k from 0 to m = min(d, C_H).

    Attributes:
      price: of the primary signal, each signal a share of its total, shape (prices,).
      harmful_left: share of the harmful signal left, in the primary's units: the least that k directions leave at this cost
        or a smaller one; shape (prices, m + 1).
      primary_lost: share of the primary signal lost, of the same shape.
      explained_left: share left of what attackers explain with the best heads on their own rows; the same as `harmful_left`
        where both tasks have one covariance.
    """

    price: jax.Array
    harmful_left: jax.Array
    primary_lost: jax.Array
    explained_left: jax.Array


def frontier(found: LabelDirections, prices: jax.Array) -> Frontier:
    """The frontier at each price, of shape (prices,), at least 0, as `inputs.as_array` takes them. Pure."""
    prices = as_array(prices, "prices").astype(found.whitening.dtype)
    small = _in_their_span(found)
    own = [(_own_whitening(task), task.labels) for task in found.own]
    own_total = sum(jnp.sum(jnp.square(product(*task))) for task in own)

    def at(price: jax.Array):
        vectors, gain, cost = _erased(small, price, small.columns)
        directions = product(found.colouring, vectors)
        explained = sum(_explained(*task, directions) for task in own)
        return tuple(
            jnp.concatenate([jnp.zeros(1, gain.dtype), jnp.cumsum(one)]) for one in (gain, cost, explained / own_total)
        )

    gain, cost, explained = jax.lax.map(at, prices)
    return Frontier(prices, 1 - gain, cost, 1 - explained)


def within_budget(found: LabelDirections, *, rank: int | None = None, loss_budget: float | None = None) -> jax.Array:
    """The directions to erase, orthonormal in the primary's units, shape (d, m); columns of none are zero. Pure.

    Args:
      found: where the labels are.
      rank: at most how many; None is all.
      loss_budget: the largest share of the primary signal that may be lost; None is all of it. Where no price keeps it, only
        what costs nothing goes.
    """
    everything = found.basis
    size = everything.shape[1]
    most = size if rank is None else min(rank, size)
    if loss_budget is None:
        return everything if most == size else _padded(_erased(_in_their_span(found), 0.0, most)[0], size)
    small = _in_their_span(found)
    # Beyond this price, rounding in the primary signal passes for harmful signal.
    highest = -math.log(jnp.finfo(everything.dtype).eps) / 4
    bounds = jnp.asarray([-highest, highest], everything.dtype)

    def halve(_, bounds):
        middle = bounds.mean()
        cost = _erased(small, jnp.exp(middle), most)[2].sum()
        return jnp.where(cost <= loss_budget, jnp.stack([bounds[0], middle]), jnp.stack([middle, bounds[1]]))

    _, upper = jax.lax.fori_loop(0, HALVINGS, halve, bounds)
    priced, _, cost = _erased(small, jnp.exp(upper), most)
    unpriced = everything if most == size else _padded(_erased(small, 0.0, most)[0], size)
    affordable = jnp.sum(jnp.square(product(unpriced.T, found.primary))) <= loss_budget * small.primary_total
    chosen = jnp.where(cost.sum() <= loss_budget, _padded(priced, size), _padded(_free(found)[:, :most], size))
    return jnp.where(affordable, unpriced, chosen)


def check_loss_budget(loss_budget: float | None) -> None:
    """Raises `InputError` unless the budget is None or a share in [0, 1)."""
    if loss_budget is not None and not 0 <= loss_budget < 1:
        raise InputError(
            f"loss_budget: needs a share of the primary signal from 0 to less than 1, got {loss_budget}; 0.02 allows 2 %"
        )


class _Small(NamedTuple):
    """Both signals as shares of their totals, in the span of the two."""

    basis: jax.Array
    harmful: jax.Array
    primary: jax.Array
    columns: int
    primary_total: jax.Array


def _in_their_span(found: LabelDirections) -> _Small:
    totals = [jnp.sum(jnp.square(signal)) for signal in (found.harmful, found.primary)]
    shares = [
        signal / jnp.sqrt(jnp.where(total > 0, total, 1))
        for signal, total in zip((found.harmful, found.primary), totals, strict=True)
    ]
    basis, _ = orthonormal_range(jnp.concatenate(shares, axis=1))
    harmful, primary = (product(basis.T, share) for share in shares)
    return _Small(basis, harmful, primary, min(found.basis.shape[1], basis.shape[1]), totals[1])


def _erased(small: _Small, price: jax.Array | float, most: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The leading eigenvectors of H - price P, at most so many and only those worth their price, others zero, shape (d, most).

    And the share of the harmful signal that each takes, and of the primary signal that it costs.
    """
    signal = product(small.harmful, small.harmful.T) - price * product(small.primary, small.primary.T)
    vectors = eigh(signal)[1][:, ::-1][:, :most]
    taken, lost = (jnp.sum(jnp.square(product(vectors.T, part)), axis=1) for part in (small.harmful, small.primary))
    rounding = rounding_tolerance(4 * len(signal), taken.dtype) * (1 + price)
    worth = taken - price * lost > rounding
    taken, lost = (jnp.where(worth, part, 0) for part in (taken, lost))
    return jnp.where(worth[None, :], product(small.basis, vectors), 0), taken, lost


def _free(found: LabelDirections) -> jax.Array:
    """Harmful directions without any primary signal, the strongest first."""
    primary, _ = orthonormal_range(found.primary)
    outside = found.harmful - product(primary, product(primary.T, found.harmful))
    # What is left of a harmful direction within the primary's range is rounding.
    noise = rounding_tolerance(max(outside.shape), outside.dtype) * jnp.linalg.norm(found.harmful, axis=0)
    return orthonormal_range(jnp.where(jnp.linalg.norm(outside, axis=0)[None, :] > noise[None, :], outside, 0))[0]


def _explained(whitening: jax.Array, labels: jax.Array, directions: jax.Array) -> jax.Array:
    """What each further direction erased takes of what heads explain of a harmful task's labels, in order; shape (k,)."""
    whitened = product(whitening, directions)
    lengths = jnp.linalg.norm(whitened, axis=0)
    q, r = qr(whitened / jnp.where(lengths > 0, lengths, 1)[None, :])
    taken = jnp.sum(jnp.square(product(q.T, product(whitening, labels))), axis=1)
    new = jnp.abs(jnp.diagonal(r)) > rounding_tolerance(max(whitened.shape), whitened.dtype)
    return jnp.where(new, taken, 0)


def _own_whitening(task: OwnSignal) -> jax.Array:
    """The inverse root of the covariance of the task's own inputs, on their range."""
    sigma, vectors = eigh(task.covariance)
    kept = sigma > rounding_tolerance(len(sigma), sigma.dtype) * sigma[-1]
    weights = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, sigma, 1)), 0)
    return product(vectors * weights[None, :], vectors.T)


def _padded(columns: jax.Array, size: int) -> jax.Array:
    return jnp.pad(columns, ((0, 0), (0, size - columns.shape[1])))
