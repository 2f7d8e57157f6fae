"""What the outcomes of a sweep say: who broke which extractor, how much it slows, and what other tasks pay."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from cimm_jax.attacks.outcome import Outcome
from cimm_jax.attacks.protocol import UNDEFENDED
from cimm_jax.numerics.interval import Interval

__all__ = [
    "LINE_SEARCH",
    "Breach",
    "Claim",
    "Outcomes",
    "Price",
    "Slowed",
    "best_accuracy",
    "claims",
    "followers",
    "heldout_left",
    "left",
    "prices",
]

LINE_SEARCH = "line_search"

Outcomes = Mapping[str, Outcome]
"""Of one extractor on one task, by attacker."""


class Breach(NamedTuple):
    """An attacker who learns at least half of what the best undefended attacker does, or keeps their held-out accuracy.

    Attributes:
      attacker: name.
      adaptive: whether they go beyond gradients on the features as they are.
      steps: to either, whichever comes first.
      left: excess loss they leave in the end.
      by_loss: whether they learn that half of the excess loss on the rows fitted.
      heldout: whether they do so on held-out rows as well.
      by_accuracy: whether they keep the accuracy (`Outcome.keeps_accuracy`).
      accuracy: their best on held-out rows; None where targets are not classes.
    """

    attacker: str
    adaptive: bool
    steps: float
    left: float
    by_loss: bool
    heldout: bool
    by_accuracy: bool
    accuracy: float | None


class Slowed(NamedTuple):
    """How much later the fastest attacker gets somewhere.

    Attributes:
      factor: steps over those undefended. A lower bound if `never`.
      never: nobody gets there in the steps given.
    """

    factor: float
    never: bool


class Claim(NamedTuple):
    """What one extractor is worth against attackers who take its features as they are and follow gradients.

    Attributes:
      extractor: name.
      attacker: the best of them at the end.
      left: excess loss they leave on the rows fitted.
      undefended_attacker: the best of them on the undefended extractor.
      undefended_left: what that one leaves.
      heldout_left: loss left on held-out rows by the best of them there, as the record's `heldout_by` says.
      undefended_heldout_left: the same undefended.
      accuracy: their best held-out accuracy with its Wilson interval; None where targets are not classes.
      undefended_accuracy: the same undefended.
      by_loss: how much later they learn half of the excess loss; None if nobody learns anything undefended.
      by_accuracy: how much later they keep the accuracy; None where targets are not classes, or nobody has any undefended.
      broken_by: every attacker of either kind who does either, the fastest first.
    """

    extractor: str
    attacker: str
    left: float
    undefended_attacker: str
    undefended_left: float
    heldout_left: float
    undefended_heldout_left: float
    accuracy: Interval | None
    undefended_accuracy: Interval | None
    by_loss: Slowed | None
    by_accuracy: Slowed | None
    broken_by: tuple[Breach, ...]

    @property
    def slowed(self) -> Slowed | None:
        """The weaker of both, which decides; None if there is nothing to protect."""
        known = [slowed for slowed in (self.by_loss, self.by_accuracy) if slowed is not None]
        reached = [slowed for slowed in known if not slowed.never] or known
        return min(reached, key=lambda slowed: slowed.factor, default=None)

    @property
    def followers(self) -> tuple[Breach, ...]:
        """Those who broke it by following gradients on the features as they come."""
        return tuple(breach for breach in self.broken_by if not breach.adaptive)


class Price(NamedTuple):
    """How fast and how well another task is still learned; shares left by gradient attackers, of the task itself.

    Attributes:
      task: primary or benign.
      extractor: name.
      line_search: excess loss left by exact line search at the end, None if it was not run.
      best: left by the best attacker.
      heldout: held-out loss left by the best attacker there.
      accuracy: best held-out accuracy, None where targets are not classes.
      slow_down: steps to half of what can be learned, over undefended, of the fastest attacker; None if never.
    """

    task: str
    extractor: str
    line_search: float | None
    best: float
    heldout: float
    accuracy: float | None
    slow_down: float | None


def claims(harmful: Mapping[str, Outcomes], records: Sequence[int]) -> list[Claim]:
    """One claim for each extractor but the undefended one.

    Args:
      harmful: outcomes on the harmful task by extractor, the undefended one among them.
      records: the numbers of steps that were recorded.
    """
    undefended = followers(harmful[UNDEFENDED])
    best_undefended = _least(undefended, left)
    found = []
    for extractor, outcomes in harmful.items():
        if extractor == UNDEFENDED:
            continue
        mine = followers(outcomes)
        best = _least(mine, left)
        found.append(
            Claim(
                extractor=extractor,
                attacker=best,
                left=left(mine[best]),
                undefended_attacker=best_undefended,
                undefended_left=left(undefended[best_undefended]),
                heldout_left=min(map(heldout_left, mine.values())),
                undefended_heldout_left=min(map(heldout_left, undefended.values())),
                accuracy=_best_wilson(mine),
                undefended_accuracy=_best_wilson(undefended),
                by_loss=_slowed(mine, undefended, lambda outcome: outcome.steps[0], records[-1]),
                by_accuracy=_slowed(mine, undefended, lambda outcome: outcome.accuracy_steps, records[-1]),
                broken_by=_broken_by(outcomes),
            )
        )
    return found


def prices(tasks: Mapping[str, Mapping[str, Outcomes]]) -> list[Price]:
    """What every extractor, the undefended one first, does to each task but the harmful one."""
    return [
        _price(task, extractor, followers(outcomes), followers(by_extractor[UNDEFENDED]))
        for task, by_extractor in tasks.items()
        if task != "harmful"
        for extractor, outcomes in by_extractor.items()
    ]


def followers(outcomes: Outcomes) -> Outcomes:
    """Those who follow gradients; all if there are none."""
    return {name: outcome for name, outcome in outcomes.items() if not outcome.adaptive} or outcomes


def left(outcome: Outcome) -> float:
    """Excess loss left; everything, if every rate diverged."""
    return max(0.0, outcome.left.estimate) if np.isfinite(outcome.left.estimate) else 1.0


def heldout_left(outcome: Outcome) -> float:
    """The same on held-out rows."""
    return outcome.heldout_left.estimate if np.isfinite(outcome.heldout_left.estimate) else 1.0


def best_accuracy(outcomes: Outcomes) -> float | None:
    """Best held-out accuracy of any attacker; None where targets are not classes."""
    accuracies = [outcome.accuracy.estimate for outcome in outcomes.values()]
    return None if np.isnan(accuracies).any() else float(max(accuracies))


def _best_wilson(outcomes: Outcomes) -> Interval | None:
    found = [outcome.accuracy_wilson for outcome in outcomes.values() if np.isfinite(outcome.accuracy_wilson.estimate)]
    return max(found, key=lambda interval: interval.estimate, default=None)


def _price(task: str, extractor: str, mine: Outcomes, undefended: Outcomes) -> Price:
    steps, base = (_fastest(outcomes, lambda outcome: outcome.steps[0]) for outcomes in (mine, undefended))
    return Price(
        task=task,
        extractor=extractor,
        line_search=left(mine[LINE_SEARCH]) if LINE_SEARCH in mine else None,
        best=min(map(left, mine.values())),
        heldout=min(map(heldout_left, mine.values())),
        accuracy=best_accuracy(mine),
        slow_down=None if steps is None or base is None else steps / base,
    )


def _slowed(mine: Outcomes, undefended: Outcomes, steps: Callable[[Outcome], float], most: int) -> Slowed | None:
    now, base = _fastest(mine, steps), _fastest(undefended, steps)
    return None if base is None else Slowed((most if now is None else now) / base, now is None)


def _broken_by(outcomes: Outcomes) -> tuple[Breach, ...]:
    breaches = [
        Breach(
            attacker=name,
            adaptive=outcome.adaptive,
            steps=min(outcome.steps[0], outcome.accuracy_steps),
            left=left(outcome),
            by_loss=outcome.breaks,
            heldout=outcome.breaks_heldout,
            by_accuracy=outcome.keeps_accuracy,
            accuracy=None if np.isnan(outcome.accuracy.estimate) else outcome.accuracy.estimate,
        )
        for name, outcome in outcomes.items()
        if outcome.breaks or outcome.keeps_accuracy
    ]
    return tuple(sorted(breaches, key=lambda breach: (breach.steps, breach.left)))


def _fastest(outcomes: Outcomes, steps: Callable[[Outcome], float]) -> float | None:
    """Least number of steps to somewhere; None if nobody gets there."""
    return min((found for o in outcomes.values() if np.isfinite(found := steps(o))), default=None)


def _least(outcomes: Outcomes, value: Callable[[Outcome], float]) -> str:
    return min(outcomes, key=lambda name: value(outcomes[name]))
