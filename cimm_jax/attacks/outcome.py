"""What a sweep found about one extractor, attacker by attacker, beside the undefended extractor under the same sweep."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cimm_jax.attacks._sweep import Best, Swept, best
from cimm_jax.attacks.measures import Deviation, relative_finetuning_deviation, steps_to_reach
from cimm_jax.attacks.protocol import are_classes
from cimm_jax.class_targets import labels_of
from cimm_jax.numerics.interval import Interval

__all__ = ["BROKEN_AT", "THRESHOLDS", "HeldOut", "Outcome", "outcomes", "slow_down", "wilson"]

THRESHOLDS = (0.5, 0.8, 0.95)
"""Shares of what the best undefended attacker learns, whose step counts are compared."""

BROKEN_AT = 0.5
"""An attacker breaks a defence if they learn this share of what the best undefended attacker does."""

_MEASURABLE = 0.01


class HeldOut(NamedTuple):
    """What accuracies on held-out rows are judged by.

    Attributes:
      rows: how many there are.
      guessing: share of them that is of the most frequent class, which whoever knows nothing classifies rightly.
    """

    rows: int
    guessing: float

    @classmethod
    def of(cls, targets) -> "HeldOut | None":
        """Of held-out targets of shape (N,) or (N, C), -1 and +1; None if they are no classes."""
        if not are_classes(targets):
            return None
        return cls.of_labels(labels_of(targets))

    @classmethod
    def of_labels(cls, labels: np.ndarray) -> "HeldOut":
        """Of class numbers of shape (N,)."""
        return cls(len(labels), float(np.bincount(labels).max() / len(labels)))


def wilson(share: float, rows: int) -> Interval:
    """Wilson's 95 % interval of a share of so many rows; NaN stays NaN."""
    from scipy.stats import binomtest

    if np.isnan(share):
        return Interval(share, share, share)
    low, high = binomtest(round(share * rows), rows).proportion_ci(method="wilson")
    return Interval(share, min(float(low), share), max(float(high), share))


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
      accuracy_wilson: the accuracy with the interval that so many held-out rows allow (Wilson, 95 %).
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
      keeps_accuracy: held-out accuracy that cannot be told from that of the best undefended attacker, their Wilson intervals
        overlapping, or that lies half way or more from guessing to it.
      accuracy_steps: to such an accuracy.
      undefended_accuracy_steps: this attacker's steps to it against the undefended extractor.
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
    accuracy_wilson: Interval
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
    keeps_accuracy: bool
    accuracy_steps: float
    undefended_accuracy_steps: float


def outcomes(
    swept: Mapping[str, Swept], extractors: Sequence[str], records: Sequence[int], heldout: HeldOut | None = None
) -> dict[str, dict[str, Outcome]]:
    """By extractor and attacker; the first extractor is the undefended one.

    Args:
      swept: from `sweep`.
      extractors: names, in the order of the sweep's targets.
      records: the numbers of steps that were recorded.
      heldout: what accuracies are judged by; None leaves them out of who breaks what.
    """
    chosen = {
        name: _Chosen(best(s.left), best(s.heldout_left), best(s.accuracy, largest=True)) for name, s in swept.items()
    }
    goals = _Goals(
        1 - min(float(c.fitted.mean[0].min()) for c in chosen.values()),
        max(0.0, 1 - min(float(c.heldout.mean[0].min()) for c in chosen.values())),
        _accuracy_goal(max(float(c.accuracy.mean[0].max()) for c in chosen.values()), heldout),
    )
    rows = 0 if heldout is None else heldout.rows
    return {
        extractor: {name: _outcome(index, s, chosen[name], goals, records, rows) for name, s in swept.items()}
        for index, extractor in enumerate(extractors)
    }


class _Chosen(NamedTuple):
    """The best rates of one attacker."""

    fitted: Best
    heldout: Best
    accuracy: Best


class _Goals(NamedTuple):
    """What the best undefended attacker learns, and the least accuracy that counts as kept (infinite if none does)."""

    fitted: float
    heldout: float
    accuracy: float


def _accuracy_goal(undefended: float, heldout: HeldOut | None) -> float:
    """The least accuracy whose Wilson interval reaches that of the undefended one, or half way to it if that is less."""
    if heldout is None or not undefended > heldout.guessing + _MEASURABLE:
        return float("inf")
    reached = wilson(undefended, heldout.rows).low
    kept = bisect_left(range(heldout.rows), reached, key=lambda right: wilson(right / heldout.rows, heldout.rows).high)
    half = heldout.guessing + BROKEN_AT * (undefended - heldout.guessing)
    # A set so small that guessing itself cannot be told from the undefended accuracy shows nothing.
    return min(half, max(kept / heldout.rows, heldout.guessing + _MEASURABLE))


def _outcome(
    index: int, swept: Swept, chosen: _Chosen, goals: _Goals, records: Sequence[int], heldout_rows: int
) -> Outcome:
    fitted, heldout, accuracy = chosen
    rate = int(fitted.rate[index, -1])
    rates = swept.operator.rates
    curves = [b.mean[index] for b in (fitted, heldout)]
    undefended = [b.mean[0] for b in (fitted, heldout)]
    deviation, gap = _deviation(accuracy.mean, heldout.mean, index)
    breaks, breaks_heldout = (
        goal > _MEASURABLE and bool(1 - curve.min() >= BROKEN_AT * goal)
        for curve, goal in zip(curves, goals[:2], strict=True)
    )
    accuracy_steps, undefended_accuracy_steps = (
        _first(records, accuracy.mean[place] >= goals.accuracy) for place in (index, 0)
    )
    accuracy_at_end = _at_end(accuracy, index)
    return Outcome(
        attacker=swept.operator.name,
        adaptive=swept.operator.adaptive,
        trials=len(rates),
        rate=rates[rate] if swept.operator.has_rate else float("nan"),
        rate_at_edge=swept.operator.has_rate and len(rates) > 1 and rate in (0, len(rates) - 1),
        diverged=float(np.asarray(swept.trace.diverged)[index, ..., -1].mean()),
        left=_at_end(fitted, index),
        heldout_left=_at_end(heldout, index),
        accuracy=accuracy_at_end,
        accuracy_wilson=wilson(accuracy_at_end.estimate if heldout_rows else float("nan"), heldout_rows),
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
        keeps_accuracy=bool(np.isfinite(accuracy_steps)),
        accuracy_steps=accuracy_steps,
        undefended_accuracy_steps=undefended_accuracy_steps,
    )


def _at_end(found: Best, index: int) -> Interval:
    return Interval(*(float(values[index, -1]) for values in (found.mean, found.low, found.high)))


def _steps(records: Sequence[int], curve: np.ndarray, goal: float) -> tuple[float, ...]:
    if goal <= _MEASURABLE:  # nobody learns anything, so there is nothing to reach
        return (float("inf"),) * len(THRESHOLDS)
    return tuple(steps_to_reach(records, curve, share * goal) for share in THRESHOLDS)


def _first(records: Sequence[int], reached: np.ndarray) -> float:
    return float(np.asarray(records)[reached.argmax()]) if reached.any() else float("inf")


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
