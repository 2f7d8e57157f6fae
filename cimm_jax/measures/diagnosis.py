"""Can this pair of tasks be immunized, what would it buy, and what would it cost? Answered before anything is trained."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.allocation import (
    Candidates,
    ParetoFront,
    SignalAware,
    allocate,
    allowance,
    check_budget,
    label_signals,
    largest_kappa,
    pareto,
)
from cimm_jax.closed_form.limits import Limit, pair_pencil, seen_in_range
from cimm_jax.closed_form.pencil import check_rtol, feature_spectrum
from cimm_jax.closed_form.ridge import CANDIDATES, RidgePath, choose_ridge
from cimm_jax.closed_form.solution import check_ridge, extractor
from cimm_jax.closed_form.units import own_units
from cimm_jax.errors import InputError, check_count
from cimm_jax.measures.definition import MUCH_GREATER
from cimm_jax.measures.ratios import ImmunizationRatio, relative_immunization_ratio
from cimm_jax.numerics.condensing import condensed_pair
from cimm_jax.numerics.convergence import excess_left
from cimm_jax.numerics.inputs import as_pair
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import product_amplification
from cimm_jax.numerics.tall_qr import inputs_in_few_rows, is_tall
from cimm_jax.tasks import Task, TaskPair, check_pair

__all__ = ["PROTECTED", "Alignment", "BudgetRow", "Diagnosis", "Protection", "alignment", "check_questions", "diagnose"]

PROTECTED = 0.5
"""A pair counts as protected if this share of the harmful excess loss is left at the horizon."""


class Alignment(NamedTuple):
    """How the leading directions of the two tasks lie to each other.

    Attributes:
      score: sum_i |u_i^T v_i| over the top k right singular vectors, from 0 to k (section 3.1 of the paper).
      cosines: |u_i^T v_j|, shape (k, k).
      angles: principal angles between the two k-dimensional spaces in degrees, ascending, shape (k,).
    """

    score: float
    cosines: np.ndarray
    angles: np.ndarray


class BudgetRow(NamedTuple):
    """What one budget buys.

    Attributes:
      budget: allowed kappa(H_P), a number, or "keep".
      kappa_primary: the same as a number.
      best_harmful_ratio: (i) at the limit, in the primary's range.
      best_primary_ratio: (ii) at the limit.
      train: ratio measured on the training rows with the ridge in force (objective `LargestKappa`), tasks whose numbers are
        extreme in units of their own.
      heldout: the same on held-out rows; None without.
      harmful_left: with the budget spent on labels, harmful excess loss left at the horizon; None without targets.
      slow_down: what that costs the primary task, as in `allocation.Candidates`; None without targets.
    """

    budget: float | str
    kappa_primary: float
    best_harmful_ratio: float
    best_primary_ratio: float
    train: ImmunizationRatio
    heldout: ImmunizationRatio | None
    harmful_left: float | None
    slow_down: float | None


class Protection(NamedTuple):
    """The best allocations of the whole budget `keep` at one ridge, gradient descent with exact line search.

    Attributes:
      ridge: relative ridge.
      free: harmful excess loss left at the horizon with the primary task no slower at any watched step; NaN if impossible.
      costly: the same with only the budget binding.
      slow_down: the price of `costly` for the primary task, as in `allocation.Candidates`.
      front: slow-down (ascending) and harmful excess left of all candidates that no other beats in both.
    """

    ridge: float
    free: float
    costly: float
    slow_down: float
    front: ParetoFront


class Diagnosis(NamedTuple):
    """The answer. NumPy arrays and plain numbers.

    Attributes:
      verdict: "immunizable", "costly" or "impossible".
      reasons: why, one sentence each.
      limit: the limit and the ranks it rests on.
      rank_harmful: all directions of the harmful task, in the primary's range or not.
      primary_only: directions of the primary's range that the harmful task lacks.
      harmful_only: directions that only the harmful task has.
      ridge: the ridge in force, relative to the mean eigenvalue of K_P.
      ridge_path: what held-out primary rows say of each candidate; None if the ridge was given.
      budgets: what each budget buys.
      alignment: leading directions.
      mu: generalised eigenvalues of the pencil with the ridge, descending, shape (rank of K_P,).
      harmful_energy: label energy on each pencil direction, as a share; None without targets.
      primary_energy: the same for the primary task.
      undefended: excess loss left on the extractor as it is after each watched step: primary, harmful; None without targets.
      watched: those numbers of steps; the last is the horizon.
      protection: at the ridge in force; None without targets.
      sample_only: the same at the least ridge that is tried; None without targets.
    """

    verdict: str
    reasons: tuple[str, ...]
    limit: Limit
    rank_harmful: int
    primary_only: int
    harmful_only: int
    ridge: float
    ridge_path: RidgePath | None
    budgets: tuple[BudgetRow, ...]
    alignment: Alignment
    mu: np.ndarray
    harmful_energy: np.ndarray | None
    primary_energy: np.ndarray | None
    undefended: tuple[np.ndarray, np.ndarray] | None
    watched: tuple[int, ...]
    protection: Protection | None
    sample_only: Protection | None


def check_questions(
    *,
    budgets: Sequence[float | str],
    top_k: int,
    ridge: float | None,
    rtol: float | None,
    horizon: int,
    primary_no_slower_at: tuple[int, ...],
) -> None:
    """Raises `InputError` for a setting of `diagnose` that is out of range, whatever the pair."""
    for budget in budgets:
        check_budget(budget)
    if not budgets:
        raise InputError("budgets: is empty; give at least one")
    check_count(top_k, "top_k")
    check_ridge(ridge)
    check_rtol(rtol)
    SignalAware(horizon, primary_no_slower_at or (horizon,))


def diagnose(
    pair: TaskPair,
    *,
    heldout: TaskPair | None = None,
    ridge_path: RidgePath | None = None,
    budgets: Sequence[float | str] = (1.0, 10.0, 100.0, "keep"),
    top_k: int = 10,
    ridge: float | None = None,
    rtol: float | None = None,
    horizon: int = 1000,
    primary_no_slower_at: tuple[int, ...] = (10, 100, 1000),
) -> Diagnosis:
    """Says whether a pair of tasks can be immunized by a linear extractor, what a budget buys, and why.

    With targets the verdict is about what gradient descent with exact line search leaves of the harmful excess loss, since
    that is what an attacker feels; without, about condition numbers alone. Immunizable: at least `PROTECTED` is left with the
    primary task no slower. Costly: that much only if the primary task slows down, or with less ridge than held-out primary
    rows ask for. Impossible: neither.

    Args:
      pair: training rows; float64 for meaningful limits. Tasks that are spread over devices by rows are condensed where they
        are (`numerics.condensing`), and their rows not copied to one device.
      heldout: other rows of both tasks, measured beside; None leaves them out.
      ridge_path: what held-out primary rows say of each candidate, if the pair is condensed (`numerics.condensing`) and has no
        rows to be held out; None finds it. A `ridge` is taken before it.
      budgets: allowed condition numbers of the primary Hessian, or "keep".
      top_k: how many leading directions the alignment looks at; cut to the smaller rank.
      ridge: relative ridge; None chooses it on held-out primary rows.
      rtol: relative tolerance of the ranks; None is the rounding level.
      horizon: steps after which the harmful loss is looked at.
      primary_no_slower_at: numbers of steps at which the primary task must be no slower.

    Raises:
      InputError: if the pair is unusable, a setting out of range, or a task has more classes than rows.
    """
    pair = check_pair(pair)
    if is_tall(pair.primary.x) and ridge is None:
        ridge_path = ridge_path or choose_ridge(pair.primary.x)
    given = as_pair(condensed_pair(pair))
    others = None if heldout is None else as_pair(condensed_pair(check_pair(heldout, "heldout")), "heldout")
    check_questions(
        budgets=budgets,
        top_k=top_k,
        ridge=ridge,
        rtol=rtol,
        horizon=horizon,
        primary_no_slower_at=primary_no_slower_at,
    )
    objective = SignalAware(horizon, primary_no_slower_at or (horizon,))
    units = own_units(given)  # no verdict depends on the scale of a task
    pair, heldout = units.pair, None if others is None else units.of_others(others)
    path = None if ridge is not None else ridge_path or choose_ridge(pair.primary.x)
    used = jnp.asarray(ridge, pair.primary.x.dtype) if path is None else path.ridge
    limit: Limit = jax.tree.map(np.asarray, _limit(pair, rtol))
    labelled = pair.primary.y is not None and pair.harmful.y is not None
    protection = sample_only = front = undefended = None
    pencil = _pencil(pair, used, rtol)
    if labelled:
        front, protection = _protection(pair, pencil, used, objective)
        sample_only = protection
        if float(used) > CANDIDATES[0]:
            least = jnp.asarray(CANDIDATES[0], used.dtype)
            sample_only = _protection(pair, _pencil(pair, least, rtol), least, objective)[1]
        undefended = (_left(pair.primary, objective), _left(pair.harmful, objective))
    rows = tuple(_budget_row(budget, pair, heldout, pencil, used, limit, front) for budget in budgets)
    verdict, reasons = _verdict(limit, protection, sample_only, objective)
    found = _signals(pencil, pair) if labelled else None
    rank = int(pencil.rank_primary)
    return Diagnosis(
        verdict=verdict,
        reasons=reasons,
        limit=limit,
        rank_harmful=int(_feature_spectrum(pair.harmful.x).rank),
        primary_only=int(limit.rank_primary - limit.rank_harmful),
        harmful_only=int(_joint_rank(pair)) - int(_feature_spectrum(pair.primary.x).rank),
        ridge=float(used),
        ridge_path=path,
        budgets=rows,
        alignment=alignment(pair, top_k=top_k),
        mu=np.asarray(pencil.scaled(units.primary, units.harmful).mu[:rank]),
        harmful_energy=None if found is None else np.asarray(found.harmful[:rank]),
        primary_energy=None if found is None else np.asarray(found.primary[:rank]),
        undefended=undefended,
        watched=objective.watched,
        protection=protection,
        sample_only=sample_only,
    )


def alignment(pair: TaskPair, *, top_k: int = 10) -> Alignment:
    """How the top k right singular vectors of both tasks lie to each other; k is cut to the smaller rank.

    Raises:
      InputError: if an input is no array of real numbers (`inputs.as_array`).
    """
    pair = as_pair(inputs_in_few_rows(pair))
    primary, harmful = (_feature_spectrum(task.x) for task in pair)
    k = min(top_k, int(primary.rank), int(harmful.rank))
    cosines = np.asarray(primary.vectors[:, :k].T @ harmful.vectors[:, :k])
    angles = np.degrees(np.arccos(np.clip(np.linalg.svd(cosines, compute_uv=False), 0, 1)))
    return Alignment(float(np.abs(np.diagonal(cosines)).sum()), np.abs(cosines), angles)


def _left(task: Task, objective: SignalAware) -> np.ndarray:
    return np.asarray(excess_left(task.x, task.y, objective.watched))


def _protection(pair, pencil, ridge, objective: SignalAware) -> tuple[Candidates, Protection]:
    allocation = _allocate(pencil, pair, objective)
    front = jax.tree.map(np.asarray, allocation.front)
    features, amplification = _extracted(pair, pencil, allocation.scale, ridge)
    free = math.nan
    if allocation.feasible:
        free = float(excess_left(features, pair.harmful.y, (objective.horizon,), amplification)[0])
    best = np.unravel_index(np.argmax(front.harmful_left), front.harmful_left.shape)
    return front, Protection(
        float(ridge), free, float(front.harmful_left[best]), float(front.slow_down[best]), pareto(front)
    )


def _budget_row(budget, pair, heldout, pencil, ridge, limit: Limit, front: Candidates | None) -> BudgetRow:
    largest = allowance(pencil, budget)
    theta = _largest_kappa_extractor(pencil, largest, ridge)
    kappa = float(limit.kappa_primary) if budget == "keep" else float(budget)
    harmful_left = slow_down = None
    if front is not None:
        affordable = front.level <= float(largest) * (1 + 1e-9)
        left = np.where(affordable[None, :, None], front.harmful_left, -np.inf)
        best = np.unravel_index(np.argmax(left), left.shape)
        harmful_left, slow_down = float(left[best]), float(front.slow_down[best])
    return BudgetRow(
        budget,
        kappa,
        kappa * float(limit.ratio_in_range) / float(limit.kappa_harmful),
        kappa / float(limit.kappa_primary),
        jax.tree.map(np.asarray, relative_immunization_ratio(theta, pair)),
        None if heldout is None else jax.tree.map(np.asarray, relative_immunization_ratio(theta, heldout)),
        harmful_left,
        slow_down,
    )


def _verdict(limit: Limit, protection: Protection | None, sample_only: Protection | None, objective: SignalAware):
    reasons = [
        f"No linear extractor gets a larger RIR than {_power(limit.log_rir)}: kappa_H / kappa_P cannot exceed mu_max / mu_min "
        f"= {float(limit.ratio_in_range):.4g} in the primary task's range ({int(limit.rank_primary)} directions)."
    ]
    if limit.harmful_only:
        reasons.append(
            f"The harmful task also has directions that the primary task lacks ({float(limit.outside):.2g} of its energy): in "
            "the sample they could raise RIR without limit, on other primary data they are a trap; they are not counted."
        )
    if not limit.resolved:
        reasons.append("Caution: float64 does not resolve the smallest mu; the limit is larger than stated.")
    if limit.log_rir < math.log(MUCH_GREATER):
        reasons.append(
            f"Definition 3.1 asks for a harmful condition number {MUCH_GREATER:g} times larger and a primary one no larger: "
            "out of reach, since the two covariances are too nearly proportional."
        )
        return "impossible", tuple(reasons)
    if protection is None or sample_only is None:
        reasons.append(
            "Without targets of both tasks nothing can be said about an attacker's loss: condition numbers only."
        )
        return "immunizable", tuple(reasons)
    steps = objective.horizon
    if protection.free >= PROTECTED:
        reasons.append(
            f"With the primary task no slower than undefended, {protection.free:.2g} of the harmful excess loss is left after "
            f"{steps} steps of gradient descent with exact line search."
        )
        return "immunizable", tuple(reasons)
    free = "nothing" if math.isnan(protection.free) else f"only {protection.free:.2g}"
    reasons.append(f"With the primary task no slower, {free} of the harmful excess loss is left after {steps} steps.")
    costly = []
    if protection.costly >= PROTECTED:
        costly.append(
            f"{protection.costly:.2g} is left if the whole budget is spent, but the primary task then has "
            f"{protection.slow_down:.2g} times the undefended excess loss left at some watched step."
        )
    if sample_only.free >= PROTECTED:
        costly.append(
            f"With a ridge of {sample_only.ridge:g} instead of the {protection.ridge:.2g} that held-out primary rows ask for, "
            f"{sample_only.free:.2g} is left with the primary task no slower on the training rows; on other primary rows it "
            "may well be slower."
        )
    if costly:
        return "costly", tuple(reasons + costly)
    reasons.append(
        f"Even the whole budget leaves only {max(protection.costly, sample_only.costly):.2g}: condition numbers can be moved "
        "apart, but the harmful labels lie where the map cannot slow them down."
    )
    return "impossible", tuple(reasons)


def _power(log_value) -> str:
    return f"e^{float(log_value):.1f}"


@partial(jax.jit, static_argnums=1)
def _limit(pair, rtol):
    return seen_in_range(pair_pencil(pair, rtol=rtol)).limit


@partial(jax.jit, static_argnums=2)
def _pencil(pair, ridge, rtol):
    return pair_pencil(pair, ridge=ridge, rtol=rtol)


@partial(jax.jit, static_argnums=2)
def _allocate(pencil, pair, objective):
    return allocate(pencil, pair, "keep", objective)


@jax.jit
def _extracted(pair, pencil, scale, ridge):
    """Harmful features, and the amplification of rounding errors in them."""
    theta = extractor(pencil, scale, ridge)
    features = product(pair.harmful.x, theta)
    return features, product_amplification(pair.harmful.x, theta, features)


@jax.jit
def _largest_kappa_extractor(pencil, largest, ridge):
    return extractor(pencil, largest_kappa(pencil, largest), ridge)


@jax.jit
def _joint_rank(pair):
    """Rank of both tasks together, each at its own scale."""
    return feature_spectrum(jnp.concatenate([task.x / jnp.linalg.norm(task.x) for task in pair])).rank


_signals = jax.jit(label_signals)
_feature_spectrum = jax.jit(feature_spectrum)
