"""What the ladder says of one defence: rung by rung, budget by budget, beside the undefended network and random weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cimm_jax.attacks.ladder.rungs import ANY, RUNGS
from cimm_jax.attacks.ladder.tried import Reached, Tried, best_of, expected_best, reached
from cimm_jax.attacks.outcome import THRESHOLDS, HeldOut, wilson
from cimm_jax.attacks.protocol import UNDEFENDED
from cimm_jax.numerics.interval import Interval

__all__ = [
    "FAILS",
    "HOLDS",
    "HOLDS_AT",
    "NOTHING",
    "PRIMARY_ALONE",
    "RANDOM_WEIGHTS",
    "WEAKENS",
    "Finding",
    "RungFinding",
    "findings",
    "least_difference",
    "transfer_advantage_removed",
]

RANDOM_WEIGHTS = "random weights"
"""Name of the same network before any training, on which every attacker is run as well."""

PRIMARY_ALONE = "primary alone"
"""Name of the same network trained on the primary task alone: the other floor, of whoever has no more than those images."""

HOLDS, WEAKENS, FAILS, NOTHING = "holds", "weakens", "does not stop", "nothing to stop"
"""What a defence does to the best attacker of a rung; the order is that of the words' weight, worst last but one."""

HOLDS_AT = 0.5
"""A defence holds if surely this share of the transfer advantage is removed."""

KEPT_WITHIN = 0.02
"""An attacker keeps the primary task who loses no more of its accuracy."""

_DRAWS = 20_000


@dataclass(frozen=True)
class Finding:
    """One rung with one budget of images.

    Attributes:
      images: how many the attacker has.
      undefended: the best attack on the published network as it was.
      defended: on the defended one.
      floor: on random weights; None where there is no network.
      least_difference: between two accuracies that so many judged images can show (95 %).
      removed: transfer advantage removed, (undefended - defended) / (undefended - floor), guessing being the floor where there
        is no network; with the 95 % interval that the judge's images allow. None where the published weights are worth
        nothing, so that there is nothing to remove.
      steps: that the quickest attacker needs to 50, 80 and 95 % of what the best undefended one gains on guessing; infinite
        where nobody gets there.
      undefended_steps: the same without the defence.
      trials: expected best accuracy of 1, 2, ... trials, an attacker at a setting.
      undefended_trials: the same without the defence.
      destroyed: primary accuracy that the best attacker loses on the way; None where features stay what they were.
      keeping: the best attack that keeps the primary accuracy within two points; None if nobody does.
      word: what the defence does.
    """

    images: int
    undefended: Reached
    defended: Reached
    floor: Reached | None
    least_difference: float
    removed: Interval | None
    steps: tuple[float, ...]
    undefended_steps: tuple[float, ...]
    trials: np.ndarray
    undefended_trials: np.ndarray
    destroyed: float | None
    keeping: Reached | None
    word: str


@dataclass(frozen=True)
class RungFinding:
    """One rung.

    Attributes:
      rung: its number; one more than the last stands for the best of all.
      budgets: in the order of their images.
      images: least number of images with which the defended network gives 50, 80 and 95 % of what the undefended one gives,
        above guessing, with all images; infinite where none suffices.
      undefended_images: the same without the defence.
      word: of the worst budget, which decides.
    """

    rung: int
    budgets: tuple[Finding, ...]
    images: tuple[float, ...]
    undefended_images: tuple[float, ...]
    word: str

    @property
    def weakest(self) -> Finding:
        """Of the budgets with the rung's word, the one with which least of the transfer advantage is removed."""

        def strength(budget: Finding) -> tuple[bool, float]:
            return budget.word != self.word, float("inf") if budget.removed is None else budget.removed.estimate

        return min(self.budgets, key=strength)


def findings(
    tried: Sequence[Tried], defence: str, *, judged: HeldOut, primary: float | None
) -> tuple[RungFinding, ...]:
    """Of every rung that there are attackers of, and of the best of all.

    Args:
      tried: everything, of the undefended network, the defended one and, if there is a network, random weights.
      defence: name.
      judged: the judge's images.
      primary: accuracy of the defended network as it is published; None if there is no head.
    """
    found = []
    for rung in (*RUNGS, ANY):
        of = [one for one in tried if rung is ANY or one.rung == rung.number]
        if of:
            found.append(_rung(rung.number, of, defence, judged, primary))
    return tuple(found)


def _rung(number: int, tried: Sequence[Tried], defence: str, judged: HeldOut, primary: float | None) -> RungFinding:
    def by(network: str, images: int) -> list[Tried]:
        return [one for one in tried if (one.network, one.images) == (network, images)]

    counts = sorted({one.images for one in tried})
    budgets = tuple(
        _finding(images, by(UNDEFENDED, images), by(defence, images), by(RANDOM_WEIGHTS, images), judged, primary)
        for images in counts
    )
    most = budgets[-1].undefended.accuracy.estimate - judged.guessing

    def images_to(curve: Sequence[float]) -> tuple[float, ...]:
        return _first_to(counts, curve, judged.guessing, most)

    words = [budget.word for budget in budgets]
    return RungFinding(
        number,
        budgets,
        images_to([budget.defended.accuracy.estimate for budget in budgets]),
        images_to([budget.undefended.accuracy.estimate for budget in budgets]),
        next(word for word in (FAILS, WEAKENS, HOLDS, NOTHING) if word in words),
    )


def _finding(
    images: int,
    undefended: Sequence[Tried],
    defended: Sequence[Tried],
    random: Sequence[Tried],
    judged: HeldOut,
    primary: float | None,
) -> Finding:
    before, after, floor = (reached(tried, judged.rows) for tried in (undefended, defended, random))
    assert before is not None  # every rung is climbed on both
    assert after is not None
    lowest = wilson(judged.guessing, judged.rows) if floor is None else floor.accuracy
    removed = transfer_advantage_removed(before.accuracy, after.accuracy, lowest, judged.rows)
    gained = before.accuracy.estimate - judged.guessing
    shown = least_difference(before.accuracy.estimate, after.accuracy.estimate, judged.rows)
    keeping = [one for one in defended if _keeps(one.primary, primary)]
    return Finding(
        images=images,
        undefended=before,
        defended=after,
        floor=floor,
        least_difference=shown,
        removed=removed,
        steps=_quickest(defended, judged.guessing, gained),
        undefended_steps=_quickest(undefended, judged.guessing, gained),
        trials=expected_best(defended),
        undefended_trials=expected_best(undefended),
        destroyed=None if primary is None or (left := best_of(defended).primary) is None else primary - left,
        keeping=reached(keeping, judged.rows),
        word=_word(before.accuracy.estimate - after.accuracy.estimate, shown, removed),
    )


def _keeps(left: float | None, primary: float | None) -> bool:
    """Whether an attacker keeps the primary task; who leaves the features as they are does."""
    return left is None or primary is None or left >= primary - KEPT_WITHIN


def _word(difference: float, shown: float, removed: Interval | None) -> str:
    if removed is None:
        return NOTHING
    if removed.low >= HOLDS_AT:
        return HOLDS
    return WEAKENS if difference > shown else FAILS


def _quickest(tried: Sequence[Tried], guessing: float, gained: float) -> tuple[float, ...]:
    """Least steps to each threshold by anybody."""
    each = [_first_to(one.steps, one.curve, guessing, gained) for one in tried]
    return tuple(min(steps) for steps in zip(*each, strict=True))


def _first_to(counts: Sequence[int], curve: Sequence[float], guessing: float, gained: float) -> tuple[float, ...]:
    """The first count at which a course of accuracies has each share of what can be gained on guessing."""

    def first(share: float) -> float:
        enough = [count for count, value in zip(counts, curve, strict=True) if value - guessing >= share * gained]
        return float(enough[0]) if enough and gained > 0 else float("inf")

    return tuple(map(first, THRESHOLDS))


def least_difference(one: float, other: float, judged: int) -> float:
    """Between two accuracies on so many images: 1.96 standard errors of a difference, the images taken as drawn twice."""
    middle = (one + other) / 2
    return float(1.96 * np.sqrt(2 * middle * (1 - middle) / judged))


def transfer_advantage_removed(
    undefended: Interval, defended: Interval, floor: Interval, judged: int
) -> Interval | None:
    """(undefended - defended) / (undefended - floor): 1, the published weights are worth nothing; 0, no protection.

    The interval is that of 20,000 draws from the three accuracies' posteriors (Jeffreys' prior), taken as independent.

    Args:
      undefended: accuracy of the best attack on the published network.
      defended: on the defended one.
      floor: on random weights.
      judged: how many images they were judged on.

    Returns:
      None where more than 2.5 % of the draws leave no advantage to remove.
    """
    rng = np.random.default_rng(0)
    draws = [
        rng.beta(share * judged + 0.5, (1 - share) * judged + 0.5, _DRAWS)
        for share in (undefended.estimate, defended.estimate, floor.estimate)
    ]
    advantage = draws[0] - draws[2]
    if np.mean(advantage <= 0) > 0.025:
        return None
    shares = (draws[0] - draws[1])[advantage > 0] / advantage[advantage > 0]
    low, high = np.quantile(shares, (0.025, 0.975))
    estimate = (undefended.estimate - defended.estimate) / (undefended.estimate - floor.estimate)
    return Interval(float(estimate), min(float(low), estimate), max(float(high), estimate))
