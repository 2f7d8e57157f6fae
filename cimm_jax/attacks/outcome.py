"""What a sweep found about one extractor, attacker by attacker, beside the undefended extractor under the same sweep."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cimm_jax.attacks._sweep import Best, Swept, best
from cimm_jax.attacks.measures import Deviation, relative_finetuning_deviation, steps_to_reach
from cimm_jax.numerics.interval import Interval

__all__ = ["BROKEN_AT", "THRESHOLDS", "Outcome", "outcomes", "slow_down"]

THRESHOLDS = (0.5, 0.8, 0.95)
"""Shares of what the best undefended attacker learns, whose step counts are compared."""

BROKEN_AT = 0.5
"""An attacker breaks a defence if they learn this share of what the best undefended attacker does."""

_MEASURABLE = 0.01


class Outcome(NamedTuple):
    """One attacker at their best against one extractor. Steps are infinite where a threshold is never reached.

    Intervals are means over seeds with their 95 % t intervals.

    Attributes:
      attacker: name.
      adaptive: whether they go beyond gradients on the features as they are.
      trials: learning rates tried.
      rate: the best of them on the rows fitted, NaN if they have none.
      rate_at_edge: the best rate is the least or greatest tried: another might do better.
      diverged: share of the runs that diverged.
      left: excess loss left on the rows fitted at the end, in [0, 1] but for divergence.
      heldout_left: loss left on held-out rows, the rate and the stop chosen to the attacker's advantage; above 1 is worse than
        knowing nothing.
      accuracy: the same for accuracy; NaN where targets are not classes.
      norm_ratio: Eq. 16 at the end, for the best rate, mean over seeds.
      curve: excess loss left at each record, the best rate of each.
      heldout_curve: the same on held-out rows.
      steps: to 50, 80 and 95 % of what the best undefended attacker learns on the rows fitted.
      heldout_steps: the same on held-out rows.
      undefended_steps: this attacker's steps to the same against the undefended extractor.
      undefended_heldout_steps: on held-out rows.
      deviation: RFD of held-out accuracy, or of the share of held-out loss learned where targets are not classes; None if
        the undefended attack never learns 1 %.
      gap: SGR at the end, of the same measure; NaN if there is none.
      breaks: learns at least half of what the best undefended attacker does on the rows fitted.
      breaks_heldout: the same on held-out rows.
    """

    attacker: str
    adaptive: bool
    trials: int
    rate: float
    rate_at_edge: bool
    diverged: float
    left: Interval
    heldout_left: Interval
    accuracy: Interval
    norm_ratio: float
    curve: np.ndarray
    heldout_curve: np.ndarray
    steps: tuple[float, ...]
    heldout_steps: tuple[float, ...]
    undefended_steps: tuple[float, ...]
    undefended_heldout_steps: tuple[float, ...]
    deviation: Deviation | None
    gap: float
    breaks: bool
    breaks_heldout: bool


def outcomes(
    swept: Mapping[str, Swept], extractors: Sequence[str], records: Sequence[int]
) -> dict[str, dict[str, Outcome]]:
    """By extractor and attacker; the first extractor is the undefended one.

    Args:
      swept: from `sweep`.
      extractors: names, in the order of the sweep's targets.
      records: the numbers of steps that were recorded.
    """
    fitted = {name: best(s.left) for name, s in swept.items()}
    heldout = {name: best(s.heldout_left) for name, s in swept.items()}
    goal = 1 - min(float(b.mean[0].min()) for b in fitted.values())
    heldout_goal = max(0.0, 1 - min(float(b.mean[0].min()) for b in heldout.values()))
    return {
        extractor: {
            name: _outcome(index, s, fitted[name], heldout[name], (goal, heldout_goal), records)
            for name, s in swept.items()
        }
        for index, extractor in enumerate(extractors)
    }


def _outcome(
    index: int, swept: Swept, fitted: Best, heldout: Best, goals: tuple[float, float], records: Sequence[int]
) -> Outcome:
    accuracy = best(swept.accuracy, largest=True)
    rate = int(fitted.rate[index, -1])
    rates = swept.operator.rates
    curves = [b.mean[index] for b in (fitted, heldout)]
    undefended = [b.mean[0] for b in (fitted, heldout)]
    deviation, gap = _deviation(accuracy.mean, heldout.mean, index)
    breaks, breaks_heldout = (
        goal > _MEASURABLE and bool(1 - curve.min() >= BROKEN_AT * goal)
        for curve, goal in zip(curves, goals, strict=True)
    )
    return Outcome(
        attacker=swept.operator.name,
        adaptive=swept.operator.adaptive,
        trials=len(rates),
        rate=rates[rate] if swept.operator.has_rate else float("nan"),
        rate_at_edge=swept.operator.has_rate and len(rates) > 1 and rate in (0, len(rates) - 1),
        diverged=float(np.asarray(swept.trace.diverged)[index, ..., -1].mean()),
        left=_at_end(fitted, index),
        heldout_left=_at_end(heldout, index),
        accuracy=_at_end(accuracy, index),
        norm_ratio=float(np.asarray(swept.trace.norm_ratio)[index, rate, :, -1].mean()),
        curve=curves[0],
        heldout_curve=curves[1],
        steps=_steps(records, curves[0], goals[0]),
        heldout_steps=_steps(records, curves[1], goals[1]),
        undefended_steps=_steps(records, undefended[0], goals[0]),
        undefended_heldout_steps=_steps(records, undefended[1], goals[1]),
        deviation=deviation,
        gap=gap,
        breaks=breaks,
        breaks_heldout=breaks_heldout,
    )


def _at_end(found: Best, index: int) -> Interval:
    return Interval(*(float(values[index, -1]) for values in (found.mean, found.low, found.high)))


def _steps(records: Sequence[int], curve: np.ndarray, goal: float) -> tuple[float, ...]:
    if goal <= _MEASURABLE:  # nobody learns anything, so there is nothing to reach
        return (float("inf"),) * len(THRESHOLDS)
    return tuple(steps_to_reach(records, curve, share * goal) for share in THRESHOLDS)


def _deviation(accuracy: np.ndarray, heldout: np.ndarray, index: int) -> tuple[Deviation | None, float]:
    """RFD over the records where the undefended attack has something to show, and SGR at the last of them."""
    courses = accuracy if np.isfinite(accuracy[0]).all() else 1 - np.minimum(heldout, 1)
    shown = courses[0] > _MEASURABLE
    if not shown.any():
        return None, float("nan")
    deviation = relative_finetuning_deviation(courses[0][shown], courses[index][shown])
    return deviation, deviation.signed_final / 100


def slow_down(outcome: Outcome, threshold: int = 0) -> float:
    """Steps to a threshold of `THRESHOLDS`, over the same attacker's steps undefended; NaN if they never reached it then."""
    steps, undefended = outcome.steps[threshold], outcome.undefended_steps[threshold]
    return steps / undefended if np.isfinite(undefended) else float("nan")
