"""The results of `cimm attack` on the terminal and in plain words."""

from collections.abc import Mapping
from typing import Any

from cimm_jax.report.attack_facts import UNDEFENDED, Breach, Claim, Price, attackers, claims, heldout_loss, prices
from cimm_jax.report.tables import format_number, print_table

STEPS_SHOWN = 3
"""Attackers named in a sentence before the rest are counted."""

CAVEAT = (
    "This is what these attackers got with these budgets, on one linear probe behind frozen features. Nothing here was run "
    "against an attacker who fine-tunes the extractor itself, and none of it makes an extractor tamper-proof."
)


def print_attack(results: Mapping[str, Any]) -> None:
    """Prints who broke what, what every attacker left, and what the protection costs."""
    found = claims(results)
    rows = [
        [
            claim.extractor,
            len(claim.broken_by),
            broken_by(claim),
            claim.left,
            claim.attacker,
            claim.heldout_left,
            slow_down_text(claim),
        ]
        for claim in found
    ]
    columns = ["extractor", "broken", "by (steps to half)", "best gradient leaves", "attacker", "held-out", "slowed"]
    if rows:
        print_table(
            columns, rows, title="the harmful task: who learns half of what the undefended extractor gives away"
        )
        print(
            f"of {len(attackers(results))} attackers; {budget_text(results)}. left: excess loss, 1 = nothing learned."
        )
        print(f"held-out: {heldout_loss(results)}, on rows nobody saw, the stop chosen by the attacker.\n")
    harmful = results["tasks"]["harmful"]
    print_table(
        ["attacker", *harmful],
        [[name, *(cell(records[name]) for records in harmful.values())] for name in attackers(results)],
        title="excess harmful loss left (steps to half of what the best undefended attacker learns)",
    )
    print()
    columns = ["task", "extractor", "line search leaves", "best leaves", "held-out", "accuracy", "slowed"]
    rows = [[*price[:-1], "never" if price.slow_down is None else times(price.slow_down)] for price in prices(results)]
    if rows:
        print_table(columns, rows, title="the price: the same attackers who follow gradients, on the other tasks")


def attack_paragraphs(results: Mapping[str, Any]) -> list[str]:
    """The verdict of each extractor, what each costs, and what was not measured."""
    cost = prices(results)
    paragraphs = [
        f"{claim.extractor}: {verdict(claim)} {sentence(claim, results)} {cost_sentence(claim.extractor, cost)}".strip()
        for claim in claims(results)
    ]
    return [*paragraphs, CAVEAT]


def verdict(claim: Claim) -> str:
    """Whether and by whom the extractor was broken, in one sentence."""
    followers = [breach for breach in claim.broken_by if not breach.adaptive]
    if followers:
        return f"does not protect. {followers[0].attacker} breaks it, as it comes, in {_steps(followers[0])}."
    if claim.broken_by:
        fastest = claim.broken_by[0]
        return (
            "protects against every attacker here who follows gradients on the features as they are, and not against those who "
            f"know better: {fastest.attacker} breaks it in {_steps(fastest)}."
        )
    return "was broken by none of these attackers."


def sentence(claim: Claim, results: Mapping[str, Any]) -> str:
    """The claim in the form "slows X under Y by Z"."""
    if claim.slow_down is None:
        return "There is nothing to protect: the best gradient attacker learns nothing undefended."
    by = slow_down_text(claim)
    return (
        f"It slows the best attacker who follows gradients ({budget_text(results)}) by {by}: {claim.attacker} leaves "
        f"{format_number(claim.left)} of the excess harmful loss, and {claim.undefended_attacker} leaves "
        f"{format_number(claim.undefended_left)} undefended; on held-out rows {format_number(claim.heldout_left)} of the "
        f"{heldout_loss(results).partition(',')[0]} against {format_number(claim.undefended_heldout_left)}."
    )


def cost_sentence(extractor: str, cost: list[Price]) -> str:
    """What the other tasks pay."""
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
    return f"The price: {'; '.join(parts)}." if parts else ""


def slow_down_text(claim: Claim) -> str:
    """Like "83x", or "more than 83x" where nobody got there."""
    if claim.slow_down is None:
        return "-"
    return f"{'more than ' if claim.never else ''}{times(claim.slow_down)}"


def times(factor: float) -> str:
    """Like "1.5x" and "1,000x"."""
    return f"{factor:,.0f}x" if factor >= 100 else f"{factor:.3g}x"


def broken_by(claim: Claim) -> str:
    """Like "newton (1), lbfgs (12) and 3 more"; "nobody"."""
    named = [f"{breach.attacker} ({breach.steps:.0f})" for breach in claim.broken_by[:STEPS_SHOWN]]
    more = len(claim.broken_by) - len(named)
    return (", ".join(named) + (f" and {more} more" if more else "")) or "nobody"


def cell(record: Mapping[str, Any]) -> str:
    """Excess loss left, and the steps to half."""
    steps = record["steps"][0]
    if record["left"]["mean"] is None:
        return "diverged"
    left = max(0.0, record["left"]["mean"])
    return f"{left:.2g} ({'never' if steps is None else f'{steps:.0f}'})"


def _steps(breach: Breach) -> str:
    return "one step" if breach.steps == 1 else f"{breach.steps:.0f} steps"


def budget_text(results: Mapping[str, Any]) -> str:
    """What every attacker was given."""
    budget = results["budget"]
    rates = max((len(rates) for rates in budget["rates"].values()), default=0)
    return f"{budget['steps']} steps, {max(1, rates)} rates, {budget['seeds']} seeds, {budget['loss']} loss"
