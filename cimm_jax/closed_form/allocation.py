"""How a budget is spent: which pencil directions of the primary's range get how much scale.

An extractor theta = V Lambda Q has kappa(H_P) = max lambda^2 / min lambda^2 (up to the ridge) and harmful features that are
orthogonal with curvatures lambda_i^2 mu_i. A budget c lets lambda^2 lie anywhere in [1, c].

* `LargestKappa` raises kappa(H_H) as far as it goes: lambda^2 grows with mu, from 1 at the smallest to c at the largest.
* `SignalAware` looks at the labels. An attacker needs the directions that carry their label energy s_i, the primary task those
  that carry its own, p_i. Scale goes to the directions with the smallest s_i / p_i (two-sided) or the smallest s_i
  (one-sided), the others get 1; gradient descent with exact line search is simulated for every threshold and a range of
  levels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.pencil import Pencil
from cimm_jax.errors import InputError
from cimm_jax.numerics.convergence import ProbeProblem, check_horizons, label_energy, line_search_left, probe_problem
from cimm_jax.numerics.decompositions import eigh
from cimm_jax.numerics.products import product
from cimm_jax.tasks import TaskPair

__all__ = [
    "FINISHED",
    "INDIFFERENCE",
    "LEVELS",
    "MOST_THRESHOLDS",
    "VERIFIED",
    "Allocation",
    "Candidates",
    "LabelSignals",
    "LargestKappa",
    "Objective",
    "ParetoFront",
    "SignalAware",
    "allocate",
    "allowance",
    "check_budget",
    "label_signals",
    "largest_kappa",
    "pareto",
]

LEVELS = 24
"""Levels of scale that are tried, from 1 to the budget in equal ratios."""

MOST_THRESHOLDS = 128
"""Up to this many directions every threshold is tried; beyond, this many, evenly spaced."""

VERIFIED = 64
"""How many of the best candidates are simulated exactly on the primary task."""

INDIFFERENCE = 0.005
"""Among candidates this close to the best protection, the kindest to the primary task is taken."""

FINISHED = 1e-12
"""Less excess loss than this share counts as none, so that a slow-down is not a ratio of rounding errors."""


@dataclass(frozen=True)
class LargestKappa:
    """Spend the budget on kappa(H_H); labels are not looked at."""


@dataclass(frozen=True)
class SignalAware:
    """Spend the budget where the attacker's labels are and the primary's are not.

    Attributes:
      horizon: the harmful excess loss left after this many steps is maximised.
      primary_no_slower_at: also ask that after each of these numbers of steps the primary probe has no more excess loss left
        than on the undefended extractor. Empty: only the budget binds.
    """

    horizon: int = 1000
    primary_no_slower_at: tuple[int, ...] = ()

    def __post_init__(self):
        if self.horizon < 1:
            raise InputError(f"horizon: needs at least 1 step, got {self.horizon}")
        check_horizons(self.primary_no_slower_at, "primary_no_slower_at")

    @property
    def watched(self) -> tuple[int, ...]:
        """The numbers of steps at which the primary task is looked at: those constrained, or else the horizon."""
        return check_horizons(self.primary_no_slower_at, "primary_no_slower_at") or (self.horizon,)


Objective = LargestKappa | SignalAware


class LabelSignals(NamedTuple):
    """What the labels look like along the pencil's directions.

    Attributes:
      harmful: label energy on each direction, shape (r,), as a share of what a probe on them can explain; zero without mu.
      primary: the same for the primary task; exact without a ridge, which couples the directions.
      primary_coefficients: primary targets in orthonormal coordinates of the primary's range, shape (r, C).
      primary_factor: N of shape (r, r); N Lambda are the primary features in those coordinates, N^T N = V^T K_P V.
    """

    harmful: jax.Array
    primary: jax.Array
    primary_coefficients: jax.Array
    primary_factor: jax.Array


class Candidates(NamedTuple):
    """Every candidate: protection against its price. Axes: two- or one-sided order, level, threshold.

    Attributes:
      level: the larger lambda^2, shape (LEVELS,), from 1 to the allowance.
      harmful_left: harmful excess loss left at the horizon, shape (2, LEVELS, thresholds).
      slow_down: the largest ratio, over the watched numbers of steps, of primary excess loss left to the undefended's; at
        most 1 where the primary task is no slower. The same shape; exact without a ridge.
    """

    level: jax.Array
    harmful_left: jax.Array
    slow_down: jax.Array


class Allocation(NamedTuple):
    """How the budget was spent.

    Attributes:
      scale: lambda^2, shape (r,), in [1, c].
      feasible: bool, whether the constraint on the primary task holds (simulated exactly).
      front: all candidates; None if labels were not looked at.
    """

    scale: jax.Array
    feasible: jax.Array
    front: Candidates | None


def allowance(pencil: Pencil, budget: float | str) -> jax.Array:
    """The largest lambda^2, so that kappa(H_P) under Eq. 1 on the training rows stays within the budget; at least 1.

    With a ridge, whitening alone leaves kappa(H_P) = (s_1 / (s_1 + ridge)) / (s_r / (s_r + ridge)), s the eigenvalues of K_P,
    and the allowance is what the budget leaves beside that. A budget of "keep" is kappa(K_P).
    """
    kept = pencil.primary * pencil.whitening**2  # s / (s + ridge), descending
    total = pencil.kappa_primary if budget == "keep" else jnp.asarray(budget, pencil.mu.dtype)
    return jnp.maximum(total * kept[pencil.rank_primary - 1] / kept[0], 1)


def check_budget(budget: float | str) -> None:
    """Raises `InputError` unless the budget is "keep" or a number of at least 1."""
    if budget == "keep":
        return
    if isinstance(budget, str) or not 1 <= budget < float("inf"):
        raise InputError(f'budget: needs a finite number of at least 1, or "keep", got {budget!r}')


def allocate(pencil: Pencil, pair: TaskPair, budget: float | str, objective: Objective) -> Allocation:
    """Spends the budget. Pure.

    Args:
      pencil: of the pair's training rows.
      pair: the same rows; targets are needed by `SignalAware` only.
      budget: the largest kappa(H_P) allowed, or "keep".
      objective: what to spend it on.

    Raises:
      InputError: if the objective is `SignalAware` and a task has no targets.
    """
    largest = allowance(pencil, budget)
    if isinstance(objective, LargestKappa):
        return Allocation(largest_kappa(pencil, largest), jnp.ones((), bool), None)
    for name, task in pair._asdict().items():
        if task.y is None:
            raise InputError(
                f"pair.{name}.y: is None, but SignalAware looks at targets; give them, or use LargestKappa()"
            )
    return _signal_aware(pencil, pair, largest, objective)


def label_signals(pencil: Pencil, pair: TaskPair) -> LabelSignals:
    """Label energies of both tasks along the pencil's directions. Pure; both tasks need targets."""
    has_signal = pencil.mu > 0
    harmful = label_energy(product(pencil.directions.T, _cross(pair.harmful))) / jnp.where(has_signal, pencil.mu, 1)
    harmful = jnp.where(has_signal, harmful, 0)
    inside = pencil.inside
    roots = jnp.sqrt(jnp.where(inside, pencil.primary, 1))
    coefficients = jnp.where(inside[:, None], product(pencil.basis.T, _cross(pair.primary)) / roots[:, None], 0)
    factor = jnp.where(inside, roots * pencil.whitening, 0)[:, None] * pencil.rotation
    norms = jnp.square(factor).sum(0)
    primary = label_energy(product(factor.T, coefficients)) / jnp.where(norms > 0, norms, 1)
    primary = jnp.where(inside, primary, 0)
    return LabelSignals(_shares(harmful), _shares(primary), coefficients, factor)


class ParetoFront(NamedTuple):
    """The candidates that no other beats in both; NumPy arrays of shape (candidates,).

    Attributes:
      slow_down: price to the primary task, ascending, as in `Candidates`.
      harmful_left: harmful excess loss left at the horizon.
    """

    slow_down: np.ndarray
    harmful_left: np.ndarray


def pareto(front: Candidates) -> ParetoFront:
    """The candidates that no other beats in both, on the host."""
    slow, left = np.ravel(front.slow_down), np.ravel(front.harmful_left)
    order = np.lexsort((-left, slow))
    best = np.maximum.accumulate(np.r_[-np.inf, left[order][:-1]])
    kept = order[left[order] > best]
    return ParetoFront(slow[kept], left[kept])


def largest_kappa(pencil: Pencil, largest: jax.Array) -> jax.Array:
    """lambda^2 = c^t with t the place of log mu between the smallest (0) and the largest (1); 1 where mu is zero."""
    counts = pencil.mu > 0
    logs = jnp.log(jnp.where(counts, pencil.mu, 1))
    bottom = logs[pencil.rank_harmful - 1]
    span = logs[0] - bottom
    distinct = span > 1e-6  # equal mu, as of identical covariances, differ by rounding only
    place = jnp.where(counts & distinct, (logs - bottom) / jnp.where(distinct, span, 1), 0)
    return jnp.exp(place * jnp.log(largest))


def _signal_aware(pencil: Pencil, pair: TaskPair, largest: jax.Array, objective: SignalAware) -> Allocation:
    found = label_signals(pencil, pair)
    inside = pencil.inside
    size = pencil.mu.shape[0]
    norms = jnp.square(found.primary_factor).sum(0)
    watched = objective.watched
    reference = line_search_left(probe_problem(pair.primary.x, pair.primary.y), watched)
    # Directions beyond the range come last; ties (no harmful signal at all) go to the strongest primary signal.
    weakest = 1e-12
    two_sided = jnp.log(found.harmful + weakest) - jnp.log(found.primary + weakest)
    one_sided = jnp.log(found.harmful + weakest)
    orders = jnp.stack([jnp.argsort(jnp.where(inside, key, jnp.inf)) for key in (two_sided, one_sided)])
    levels = jnp.exp(jnp.log(largest) * jnp.linspace(0, 1, LEVELS, dtype=largest.dtype))
    steps = min(size, MOST_THRESHOLDS)
    thresholds = jnp.asarray(np.linspace(0, size, steps + 1).round(), jnp.int32)

    def scales(order, level, thresholds):
        place = jnp.argsort(order).astype(jnp.int32)  # where each direction stands in the order
        chosen = (place[None, :] < thresholds[:, None]) & inside[None, :]
        return jnp.where(chosen, level, 1)

    def evaluate(case):
        order, level = case
        scale = scales(order, level, thresholds)
        harmful = ProbeProblem(scale * pencil.mu[None, :], jnp.broadcast_to(found.harmful, scale.shape))
        primary = ProbeProblem(scale * norms[None, :], jnp.broadcast_to(found.primary, scale.shape))
        return line_search_left(harmful, (objective.horizon,))[..., 0], line_search_left(primary, watched)

    cases = (jnp.repeat(orders, LEVELS, axis=0), jnp.tile(levels, 2))
    harmful_left, primary_left = jax.lax.map(evaluate, cases)
    slow_down = _slow_down(primary_left, reference)
    # Without coupling between the directions the simulation above is exact; a ridge couples them, so the best are simulated
    # on the primary features themselves. The first candidate, plain whitening, is always among them.
    constrained = bool(objective.primary_no_slower_at)
    promising = jnp.where(slow_down <= 1.05, harmful_left, -1) if constrained else harmful_left
    flat = promising.ravel().at[0].set(jnp.inf)
    best = jax.lax.top_k(flat, min(VERIFIED, flat.size))[1]
    case, threshold = best // len(thresholds), best % len(thresholds)
    tried = jax.vmap(lambda c, t: scales(cases[0][c], cases[1][c], thresholds[t][None])[0])(case, threshold)
    exact = _slow_down(_primary_left(found, tried, watched), reference)
    left = harmful_left.ravel()[best]
    allowed = exact <= 1 if constrained else jnp.ones_like(exact, bool)
    feasible = allowed.any()
    # If nothing is feasible, the candidate that comes nearest.
    reachable = jnp.where(allowed, left, -1)
    near = jnp.where(feasible, allowed & (reachable >= reachable.max() - INDIFFERENCE), True)
    chosen = jnp.argmin(jnp.where(near, exact, jnp.inf))
    shape = (2, LEVELS, len(thresholds))
    front = Candidates(levels, harmful_left.reshape(shape), slow_down.reshape(shape))
    # Only ratios matter: the same scale on every direction is plain whitening, whatever its level.
    scale = tried[chosen] / jnp.where(inside, tried[chosen], jnp.inf).min()
    return Allocation(jnp.where(inside, scale, 1), feasible, front)


def _primary_left(found: LabelSignals, scale: jax.Array, watched: tuple[int, ...]) -> jax.Array:
    """Primary excess loss left for each row of lambda^2, shape (candidates, watched), with the ridge's coupling.

    In the eigenbasis of N Lambda^2 N^T a step costs nothing, however many targets there are.
    """

    def left(scale):
        gram = product(found.primary_factor * scale[None, :], found.primary_factor.T)
        curvature, vectors = eigh(gram)
        energy = label_energy(product(vectors.T, found.primary_coefficients))
        return line_search_left(ProbeProblem(jnp.maximum(curvature, 0), energy), watched)

    return jax.lax.map(left, scale)


def _slow_down(left: jax.Array, reference: jax.Array) -> jax.Array:
    """The largest ratio over the watched steps; shape without the last axis."""
    return ((left + FINISHED) / (jnp.expand_dims(reference, tuple(range(left.ndim - 1))) + FINISHED)).max(-1)


def _cross(task) -> jax.Array:
    return product(task.x.T, task.y.reshape(task.y.shape[0], -1))


def _shares(energy: jax.Array) -> jax.Array:
    total = energy.sum()
    return energy / jnp.where(total > 0, total, 1)
