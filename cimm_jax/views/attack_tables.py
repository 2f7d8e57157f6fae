"""The tables of an attack: attackers by extractors, held-out rows, RFD, settings of the best, the price."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from cimm_jax import attacks
from cimm_jax.attacks import UNDEFENDED, Outcome, Price
from cimm_jax.numerics.interval import Interval
from cimm_jax.runs.records import AttackRecord
from cimm_jax.views.attack_words import heldout_loss
from cimm_jax.views.blocks import Cell, Facts, Section, Table, Text
from cimm_jax.views.numbers import format_number, percent, steps_text, times

__all__ = ["DEVIATION", "HELDOUT", "LEFT", "TUNING", "attacker_sections", "attackers", "price_section"]

LEFT = (
    "Excess loss left at the end: 1, nothing learned; 0, all there is to learn. Below it, steps to 50 / 80 / 95 % of what the "
    "best undefended attacker learns; where seeds differ, their 95 % interval. edge: the best learning rate is the least or "
    "greatest tried. diverged: share of the attacker's runs, over all rates and seeds, that did."
)
HELDOUT = (
    "On rows nobody fitted, {loss}: above 1 is worse than knowing nothing. Rate and stop are "
    "chosen to the attacker's advantage. Below it, steps to 50 / 80 / 95 % of what the best undefended attacker gains there"
)
DEVIATION = (
    "RFD: how far the attacker's {measure} falls behind that on the undefended extractor, in per cent of it, mean over the "
    "records → at the last one. Signed, positive means slowed; absolute is RFD as published, which rewards an extractor "
    "that is easier to attack. SGR is the gap at the end, as a share."
)
TUNING = (
    "The learning rate that was best on the rows fitted, of how many; Eq. 16 of the paper at the end, ||w - w*||^2 / ||w*||^2; "
    "and steps to half over the same attacker's steps undefended."
)


def attackers(record: AttackRecord) -> list[str]:
    """Names of the attackers that were run, those who follow gradients first."""
    outcomes = record.tasks["harmful"][UNDEFENDED]
    return sorted(outcomes, key=lambda name: outcomes[name].adaptive)


def attacker_sections(record: AttackRecord) -> list[Section]:
    """Sections in the order of a page."""
    heldout = HELDOUT.format(loss=heldout_loss(record)) + (
        "; best accuracy, and the interval that so many rows allow (Wilson, 95 %); the steps after which the undefended "
        "accuracy was kept."
        if record.classes
        else "."
    )
    measure = "accuracy" if record.classes else "share of held-out loss learned"
    left = _by_attacker(record, _left, "Harmful task, rows fitted")
    held = _by_attacker(record, _heldout, "Harmful task, held-out rows")
    tuned = _by_attacker(record, _tuning, "Best learning rates")
    sections = [
        Section("What each attacker leaves", [left, Text(LEFT, quiet=True)]),
        Section("On held-out rows", [held, Text(heldout, quiet=True)]),
        Section("Tuning of each attacker", [tuned, Text(TUNING, quiet=True), *_rates(record)], folded=True),
    ]
    if len(record.extractors) > 1:
        deviation = _by_attacker(record, _deviation, "Deviation from the undefended", undefended=False)
        text = Text(DEVIATION.format(measure=measure), quiet=True)
        sections.append(Section("RFD and SGR", [deviation, text], folded=True))
    return sections


def price_section(record: AttackRecord, cost: Sequence[Price]) -> Section:
    """What the other tasks pay."""
    title = "The price to other tasks"
    if not cost:
        return Section(title, [Text("No other task was attacked.")])
    columns = ["task", "extractor", "line search leaves", "best leaves", "held-out", "accuracy", "steps to half"]
    groups = []
    for task in dict.fromkeys(price.task for price in cost):
        rows = [
            [
                price.extractor,
                price.line_search,
                price.best,
                price.heldout,
                price.accuracy,
                Cell("never" if price.slow_down is None else times(price.slow_down)),
            ]
            for price in cost
            if price.task == task
        ]
        groups.append((task, rows))
    text = (
        "The same gradient followers on the tasks that should stay easy. Shares of each task's own excess loss, held-out "
        f"{heldout_loss(record)}, best held-out accuracy, and steps to half of what can be learned, over undefended."
    )
    return Section(
        title, [Table("What gradient followers leave of the other tasks", columns, groups), Text(text, quiet=True)]
    )


def _by_attacker(record: AttackRecord, cell: Callable[[Outcome], Cell], caption: str, undefended: bool = True) -> Table:
    harmful = {name: o for name, o in record.tasks["harmful"].items() if undefended or name != UNDEFENDED}
    base = record.tasks["harmful"][UNDEFENDED]
    groups: list[tuple[str, list[list[Cell]]]] = []
    for adaptive, title in ((False, "gradient followers"), (True, "adaptive attackers")):
        names = [name for name in attackers(record) if base[name].adaptive == adaptive]
        groups += [(title, [])] if names else []
        groups += [(name, [[cell(outcomes[name]) for outcomes in harmful.values()]]) for name in names]
    return Table(caption, ["attacker", *harmful], groups)


def _rates(record: AttackRecord) -> list[Facts]:
    """The learning rates that were tried, by attacker."""
    facts = []
    for name, rates in record.budget.rates.items():
        numbers = list(map(format_number, sorted(rates)))
        if numbers:
            few = ", ".join(numbers)
            facts.append((name, few if len(numbers) < 4 else f"{len(numbers)} from {numbers[0]} to {numbers[-1]}"))
    return [Facts(facts, title="Learning rates tried")] if facts else []


def _left(outcome: Outcome) -> Cell:
    marks = ("edge",) if outcome.rate_at_edge else ()
    if not np.isfinite(outcome.left.estimate):
        return Cell("diverged", (), marks)
    lines = [steps_text(outcome.steps), *_interval(outcome.left)]
    lines += [f"{100 * outcome.diverged:.2g} % diverged"] if outcome.diverged else []
    return Cell(_shown(outcome.left), tuple(lines), marks)


def _heldout(outcome: Outcome) -> Cell:
    if not np.isfinite(outcome.heldout_left.estimate):
        return Cell("diverged")
    cell = Cell(_shown(outcome.heldout_left), (steps_text(outcome.heldout_steps), *_interval(outcome.heldout_left)))
    if np.isnan(outcome.accuracy.estimate):
        return cell
    between = [f"{low:.3g} to {high:.3g}" for _, low, high in [outcome.accuracy] if low != high]
    of = outcome.accuracy_wilson
    lines = [f"accuracy {percent(of.estimate)}, {percent(of.low)} to {percent(of.high)}", *between]
    lines += [f"kept after {outcome.accuracy_steps:.0f}"] if outcome.keeps_accuracy else []
    return replace(cell, small=(*cell.small, *lines))


def _tuning(outcome: Outcome) -> Cell:
    rate = "no rate" if np.isnan(outcome.rate) else f"{outcome.rate:.3g} of {outcome.trials}"
    slowed = attacks.slow_down(outcome)
    lines = [f"Eq. 16: {format_number(outcome.norm_ratio)}"]
    lines += [] if np.isnan(slowed) else [f"slowed {times(slowed) if np.isfinite(slowed) else 'for ever'}"]
    lines += [f"undefended {steps_text(outcome.undefended_steps)}"]
    lines += [f"held-out undefended {steps_text(outcome.undefended_heldout_steps)}"]
    if np.isfinite(outcome.undefended_accuracy_steps):
        lines.append(f"accuracy undefended {outcome.undefended_accuracy_steps:.0f}")
    return Cell(rate, tuple(lines))


def _deviation(outcome: Outcome) -> Cell:
    found = outcome.deviation
    if found is None:
        return Cell("-")
    lines = [f"absolute {found.absolute_mean:z.1f} → {found.absolute_final:z.1f}"]
    lines += [] if np.isnan(outcome.gap) else [f"SGR {outcome.gap:z.3f}"]
    return Cell(f"{found.signed_mean:+z.1f} → {found.signed_final:+z.1f}", tuple(lines))


def _shown(interval: Interval) -> str:
    return f"{max(0.0, interval.estimate):.2g}"


def _interval(interval: Interval) -> list[str]:
    """The interval, if seeds differ in what is shown."""
    if not np.isfinite([interval.low, interval.high]).all():
        return []
    low, high = (f"{max(0.0, end):.2g}" for end in (interval.low, interval.high))
    return [] if low == high else [f"{low} to {high}"]
