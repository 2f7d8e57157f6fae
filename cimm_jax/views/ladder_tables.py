"""The tables of an attack ladder: rung by rung, steps and images, the primary task, layers, everybody tried."""

from collections.abc import Callable, Sequence

import numpy as np

from cimm_jax.attacks.ladder.by_rung import RANDOM_WEIGHTS, Finding
from cimm_jax.attacks.ladder.rungs import LAYERS
from cimm_jax.attacks.ladder.tried import Reached, Tried, reached
from cimm_jax.numerics.interval import Interval
from cimm_jax.runs.records import LadderRecord
from cimm_jax.views.blocks import Cell, Section, Table, Text
from cimm_jax.views.ladder_words import budget_text, rung_name
from cimm_jax.views.numbers import format_number, interval_text, percent, place_text, steps_text
from cimm_jax.views.tables import reached_cell, seeds_text

__all__ = [
    "best_by",
    "everybody_section",
    "layers_table",
    "networks_table",
    "places",
    "primary_section",
    "quickness_section",
    "rungs_section",
]

BEST = (
    "Share of the held-out blocked images that the best attack of a rung classifies rightly, every setting tried: its interval "
    "(Wilson, 95 %), who it was, with which setting, on whose activations or training what, and the range of seeds. Least "
    "difference: between two accuracies that so many judged images can tell apart. Advantage removed: (undefended - "
    "defended) / (undefended - random weights); 1, the published weights are worth nothing; 0, no protection."
)
QUICK = (
    "Steps, and least images, to 50 / 80 / 95 % of what the best undefended attacker gains on guessing: for steps with the "
    "same images, for images with all there are. A trial is an attacker at a setting, drawn at random."
)
DESTROYED = (
    "Attackers who train the network change what its published head says of the primary images. Destroyed: how much primary "
    "accuracy the best attack costs them. The other is the best among attacks that keep it within two points."
)
KINDS = {
    "none": "as published",
    "map": "linear map",
    "blocks": "trained blocks",
    "random": "before any training",
    "alone": "trained on the primary task alone",
}


def best_by(
    record: LadderRecord, network: str, images: int, *, rung: int | None = None, place: str | None = None
) -> Reached | None:
    """The best attack on a network with so many images, on one rung or of all, at one place or anywhere; None if none was."""
    found = [
        one
        for one in record.tried
        if (one.network, one.images) == (network, images) and rung in (None, one.rung) and place in (None, one.place)
    ]
    return reached(found, record.judged.rows)


def places(record: LadderRecord) -> list[str]:
    """Cuts, and several together, on which heads were fitted, in the order in which they were tried."""
    return list(dict.fromkeys(one.place for one in record.tried if one.rung == LAYERS))


def rungs_section(record: LadderRecord) -> Section:
    """What the best attack of each rung gets with each budget, one table a defence."""
    tables = []
    for defence, found in record.rungs.items():
        floored = any(budget.floor is not None for of in found for budget in of.budgets)
        columns = ["rung", "with", "what it does", "advantage removed", "undefended", defence]
        columns += [*([RANDOM_WEIGHTS] if floored else []), "least difference"]
        groups = [(rung_name(of.rung), [_best_row(record, budget, floored) for budget in of.budgets]) for of in found]
        tables.append(Table(f"What attackers get, rung by rung: {defence}", columns, groups))
    return Section("Rung by rung", [*tables, Text(BEST, quiet=True)] if tables else [])


def quickness_section(record: LadderRecord) -> Section:
    """How many steps, images and trials attackers need."""
    tables = []
    for defence, found in record.rungs.items():
        steps = [(rung_name(of.rung), [_steps_row(record, budget) for budget in of.budgets]) for of in found]
        images = [(rung_name(of.rung), [[_counts(of.undefended_images), _counts(of.images)]]) for of in found]
        trials = [(rung_name(of.rung), [_trials_row(record, budget) for budget in of.budgets]) for of in found]
        tables += [
            Table(f"Steps to 50 / 80 / 95 %: {defence}", ["rung", "with", "undefended", defence], steps),
            Table(f"Images to 50 / 80 / 95 %: {defence}", ["rung", "undefended", defence], images),
            Table(f"Expected best of 1 / 10 / all trials: {defence}", ["rung", "with", "undefended", defence], trials),
        ]
    return Section("How quickly they get it", [*tables, Text(QUICK, quiet=True)] if tables else [], folded=True)


def primary_section(record: LadderRecord) -> Section:
    """What attackers who train the network destroy of the primary task."""
    tables = []
    for defence, found in record.rungs.items():
        training = [of for of in found if any(budget.destroyed is not None for budget in of.budgets)]
        groups = [(rung_name(of.rung), [_primary_row(record, budget) for budget in of.budgets]) for of in training]
        columns = ["rung", "with", "best attack", "destroyed", "best that keeps it"]
        tables += [Table(f"The primary task under attack: {defence}", columns, groups)] if groups else []
    return Section("The primary task under attack", [*tables, Text(DESTROYED, quiet=True)] if tables else [])


def layers_table(record: LadderRecord, networks: Sequence[str]) -> Table:
    """What the best head on each cut gets, with most images."""
    images = record.budgets[-1].images
    groups = [
        (
            place_text(place),
            [[reached_cell(best_by(record, name, images, rung=LAYERS, place=place)) for name in networks]],
        )
        for place in places(record)
    ]
    return Table(f"Best head on each cut, {budget_text(record, images)}", ["cut", *networks], groups)


def networks_table(record: LadderRecord) -> Table:
    """What was attacked."""
    groups = [
        (name, [[KINDS.get(of.kind, of.kind), Cell("-" if of.primary is None else percent(of.primary))]])
        for name, of in record.networks.items()
    ]
    return Table("What was attacked", ["network", "kind", "primary accuracy as published"], groups)


def everybody_section(record: LadderRecord) -> Section:
    """Every attacker against every network, one table a budget."""
    return Section(
        "Every attacker tried",
        [_everybody(record, images) for images in sorted({one.images for one in record.tried})],
        folded=True,
    )


def _best_row(record: LadderRecord, of: Finding, floored: bool) -> list[object]:
    best = [reached_cell(one) for one in (of.undefended, of.defended, *([of.floor] if floored else []))]
    return [budget_text(record, of.images), of.word, _removed(of.removed), *best, Cell(percent(of.least_difference))]


def _removed(share: Interval | None) -> Cell:
    return Cell("-") if share is None else Cell(f"{share.estimate:.2f}", (interval_text(share.low, share.high),))


def _steps_row(record: LadderRecord, of: Finding) -> list[object]:
    return [budget_text(record, of.images), _counts(of.undefended_steps), _counts(of.steps)]


def _trials_row(record: LadderRecord, of: Finding) -> list[object]:
    return [budget_text(record, of.images), *(_expected(trials) for trials in (of.undefended_trials, of.trials))]


def _expected(best: np.ndarray) -> Cell:
    """Accuracy expected of one, ten and all trials, as far as there are so many."""
    counts = sorted({number for number in (1, 10, len(best)) if 0 < number <= len(best)})
    return Cell(" / ".join(percent(best[number - 1]) for number in counts))


def _primary_row(record: LadderRecord, of: Finding) -> list[object]:
    destroyed = Cell("-" if of.destroyed is None else percent(of.destroyed))
    return [budget_text(record, of.images), reached_cell(of.defended), destroyed, reached_cell(of.keeping)]


def _counts(counts: Sequence[float]) -> Cell:
    return Cell(steps_text(counts))


def _everybody(record: LadderRecord, images: int) -> Table:
    tried = {(one.network, one.rung, one.attacker, one.place): one for one in record.tried if one.images == images}
    networks = list(dict.fromkeys(network for network, *_ in tried))
    groups: list[tuple[str, list[list[Cell]]]] = []
    for rung in sorted({rung for _, rung, *_ in tried}):
        groups.append((rung_name(rung), []))
        for attacker, place in dict.fromkeys((name, at) for _, of, name, at in tried if of == rung):
            cells = [_tried(tried.get((network, rung, attacker, place))) for network in networks]
            groups.append((f"{attacker}, {place_text(place)}", [cells]))
    return Table(f"Every attacker, {budget_text(record, images)}", ["attacker", *networks], groups)


def _tried(of: Tried | None) -> Cell:
    if of is None:
        return Cell("-")
    known = [(setting, value) for setting, value in zip(of.settings, of.accuracy, strict=True) if not np.isnan(value)]
    lines = seeds_text(of.by_seed)
    lines += [f"setting {_spread(of.settings, format_number)}"] if len(of.settings) > 1 else []
    lines += [f"best at {format_number(of.setting)} of {len(known)}"] if len(known) > 1 else []
    lines += [f"settings {_spread([value for _, value in known], percent)}"] if len(known) > 1 else []
    lines += [f"{_spread(of.steps, format_number)} steps: {_spread(of.curve, percent)}"]
    lines += [] if of.primary is None else [f"primary {percent(of.primary)}"]
    lines += [f"{percent(of.diverged)} diverged"] if of.diverged else []
    return Cell(percent(of.best), (*lines, f"{of.seconds:.3g} s"))


def _spread(values: Sequence[float], shown: Callable[[object], str]) -> str:
    """Least to greatest, or the one value."""
    low, high = (shown(end) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
