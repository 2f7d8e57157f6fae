"""What was found by attackers, in sentences: verdicts, claims, prices, gains."""

from collections.abc import Sequence
from typing import NamedTuple

from cimm_jax.attacks import UNDEFENDED, Breach, Claim, Outcome, Price, Slowed
from cimm_jax.attacks.findings import followers, heldout_left
from cimm_jax.runs.records import AttackRecord, Budget
from cimm_jax.views.blocks import Status
from cimm_jax.views.numbers import counted, format_number, percent, times

__all__ = [
    "CAVEAT",
    "KINDS",
    "Gains",
    "budget_text",
    "claim_text",
    "cost_text",
    "gain_text",
    "gains",
    "heldout_loss",
    "kind_of",
    "slowed_text",
    "verdict",
]

CAVEAT = (
    "This is what these attackers got with these budgets, on one linear probe behind frozen features. Nothing here was run "
    "against an attacker who fine-tunes the extractor itself, and none of it makes an extractor tamper-proof."
)

KINDS: dict[str, tuple[Status, str]] = {
    "gradient": ("bad", "broken by gradient followers"),
    "adaptive": ("warn", "broken by adaptive attackers only"),
    "nobody": ("good", "broken by none of these attackers"),
    "nothing": ("neutral", "nothing to protect"),
}
"""Who broke an extractor, and how that is told."""


def kind_of(claim: Claim) -> str:
    """Who broke it: a key of `KINDS`."""
    if claim.slowed is None:
        return "nothing"
    if not claim.broken_by:
        return "nobody"
    return "gradient" if claim.followers else "adaptive"


def verdict(claim: Claim) -> str:
    """Whether and by whom the extractor was broken, in one sentence."""
    if claim.slowed is None:
        return "has nothing to protect: the best gradient attacker learns nothing undefended."
    if claim.followers:
        return f"does not protect. {_breaks(claim.followers[0], claim)}, taking its features as they come."
    if claim.broken_by:
        return (
            "protects against every attacker here who follows gradients on the features as they are, and not against those who "
            f"know better: {_breaks(claim.broken_by[0], claim)}."
        )
    return "was broken by none of these attackers."


def claim_text(claim: Claim, record: AttackRecord) -> str:
    """The claim "slows X under Y by Z", the weaker of loss and accuracy deciding Z; empty where nobody is slowed."""
    if claim.slowed is None or (claim.slowed.factor <= 1 and not claim.slowed.never):
        return ""
    return (
        f"slows the best attacker who follows gradients ({budget_text(record.budget)}) by {slowed_text(claim.slowed)}"
        f"{_disagreement(claim)}: {claim.attacker} leaves {format_number(claim.left)} of the excess harmful loss, and "
        f"{claim.undefended_attacker} leaves {format_number(claim.undefended_left)} undefended; on held-out rows "
        f"{format_number(claim.heldout_left)} of the {heldout_loss(record).partition(',')[0]} against "
        f"{format_number(claim.undefended_heldout_left)}{_accuracies(claim)}."
    )


def _breaks(breach: Breach, claim: Claim) -> str:
    """Like "adam breaks it in 4 steps"; where only one of loss and accuracy says so, both are told."""
    told = f"{breach.attacker} breaks it in {_steps(breach)}"
    if breach.by_loss or claim.undefended_accuracy is None or breach.accuracy is None:
        return told
    undefended = claim.undefended_accuracy
    return (
        f"{told}: it leaves {format_number(breach.left)} of the excess loss, yet classifies {percent(breach.accuracy)} of the "
        f"held-out rows rightly (undefended {percent(undefended.estimate)}, as far as so many rows can tell "
        f"between {percent(undefended.low)} and {percent(undefended.high)})"
    )


def _disagreement(claim: Claim) -> str:
    """Both factors where loss and accuracy disagree about them."""
    if claim.by_loss is None or claim.by_accuracy is None or claim.by_loss == claim.by_accuracy:
        return ""
    return f" (half of the loss: {slowed_text(claim.by_loss)}; the accuracy: {slowed_text(claim.by_accuracy)})"


def _accuracies(claim: Claim) -> str:
    if claim.accuracy is None or claim.undefended_accuracy is None:
        return ""
    now, before = (
        f"{percent(of.estimate)} ({percent(of.low)} to {percent(of.high)})"
        for of in (claim.accuracy, claim.undefended_accuracy)
    )
    return f"; held-out accuracy {now} against {before}"


def cost_text(extractor: str, cost: Sequence[Price]) -> str:
    """What the other tasks pay; empty if none was attacked."""
    parts = []
    for price in cost:
        if price.extractor != extractor:
            continue
        base = next(other for other in cost if other.task == price.task and other.extractor == UNDEFENDED)
        slowed = "gets half way no slower"
        if price.slow_down is None:
            slowed = "no longer gets half way"
        elif price.slow_down > 1:
            slowed = f"gets half way in {price.slow_down:.3g} times the steps"
        parts.append(
            f"the {price.task} task {slowed} and keeps {format_number(price.best)} of its excess loss (undefended "
            f"{format_number(base.best)}), held-out {format_number(price.heldout)} ({format_number(base.heldout)})"
        )
    return f"{'; '.join(parts)}." if parts else ""


def slowed_text(slowed: Slowed | None) -> str:
    """Like "83x", or "more than 83x" where nobody got there; "-" for None."""
    return "-" if slowed is None else f"{'more than ' if slowed.never else ''}{times(slowed.factor)}"


def budget_text(budget: Budget) -> str:
    """What every attacker was given."""
    rates = max((len(rates) for rates in budget.rates.values()), default=0)
    counts = ((budget.steps, "step"), (max(1, rates), "rate"), (budget.seeds, "seed"))
    return ", ".join([*(counted(count, noun) for count, noun in counts), f"{budget.loss} loss"])


def heldout_loss(record: AttackRecord) -> str:
    """What held-out numbers are shares of."""
    by_errors = record.heldout_by == "errors"
    return "errors, over those of guessing" if by_errors else "loss, over that of a zero probe"


class Gains(NamedTuple):
    """What attackers get on held-out harmful rows, from nothing (0) to all (1).

    Attributes:
      extractors: names, the undefended one first.
      followers: of the best who follows gradients, by extractor.
      anybody: of the best of all, by extractor.
      label: what is counted.
    """

    extractors: tuple[str, ...]
    followers: tuple[float, ...]
    anybody: tuple[float, ...]
    label: str


def gains(record: AttackRecord) -> Gains:
    """Held-out accuracy where the targets are classes, and the share of the held-out loss that is learned elsewhere."""
    harmful = record.tasks["harmful"]

    def gain(outcome: Outcome) -> float:
        return outcome.accuracy.estimate if record.classes else min(1.0, max(0.0, 1 - heldout_left(outcome)))

    return Gains(
        tuple(harmful),
        tuple(max(map(gain, followers(outcomes).values())) for outcomes in harmful.values()),
        tuple(max(map(gain, outcomes.values())) for outcomes in harmful.values()),
        "held-out accuracy" if record.classes else "share of the held-out loss learned",
    )


def gain_text(record: AttackRecord, extractor: str) -> str:
    """What an attacker gets, for those who do not know the theory."""
    found = gains(record)
    place = found.extractors.index(extractor)
    of = "of the held-out harmful rows right" if record.classes else "of what there is to learn of the harmful task"
    return (
        f"Whoever tries every attack here gets {percent(found.anybody[place])} {of} (undefended "
        f"{percent(found.anybody[0])}); whoever only follows gradients gets {percent(found.followers[place])} (undefended "
        f"{percent(found.followers[0])})."
    )


def _steps(breach: Breach) -> str:
    return "one step" if breach.steps == 1 else f"{breach.steps:.0f} steps"
