"""An attack ladder: the picture, what each defence stops, rung by rung, where it leaks, and what was not measured."""

import numpy as np

from cimm_jax.attacks.ladder.by_rung import RANDOM_WEIGHTS
from cimm_jax.attacks.ladder.rungs import RUNGS
from cimm_jax.attacks.ladder.tried import Tried
from cimm_jax.runs.records import LadderRecord
from cimm_jax.views.blocks import Block, Card, Cards, Facts, Figures, Items, Part, Section, Status, Text
from cimm_jax.views.ladder_figures import course_figures, layers_figure, layers_text, rung_figures
from cimm_jax.views.ladder_tables import (
    everybody_section,
    layers_table,
    networks_table,
    primary_section,
    quickness_section,
    rungs_section,
)
from cimm_jax.views.ladder_words import (
    FLATTERED,
    LADDER_KINDS,
    MEANING,
    budget_text,
    claim_texts,
    defence_text,
    input_of,
    rung_name,
    rung_text,
    what_it_stops,
)
from cimm_jax.views.manifest import manifest_sections, task_facts
from cimm_jax.views.numbers import counted, listed, percent
from cimm_jax.views.tables import network_facts, outputs_section

__all__ = ["claims_of", "headline", "ladder_part", "not_measured", "title_of"]

UNATTACKED = "Only the undefended network was attacked: there is no defence to judge."
READING = (
    "Each rung is a kind of attacker, from those who touch least to those who touch most, tuned alike on every network. The "
    "lower a defence's line, the better."
)
BARS = (
    " Bars are what the same attackers get of random weights, which is all that a defence can reach; only those who train all "
    "weights fine-tune these."
)


def ladder_part(record: LadderRecord, folder: str = "") -> Part:
    """Everything of a ladder."""
    reading = READING + (BARS if RANDOM_WEIGHTS in record.networks else "")
    sections = [
        Section("What attackers get", [Figures(rung_figures(record)), Text(reading, quiet=True)]),
        Section("Verdict", _verdict(record)),
        Section("What each defence stops", _by_defence(record)),
        Section("Claims", _claims(record)),
        Section("Tasks", [Facts(_tasks(record)), *network_facts(record.network), networks_table(record)]),
        rungs_section(record),
        Section("Steps, images and trials", [Figures(course_figures(record))]),
        quickness_section(record),
        primary_section(record),
        Section("Which layer leaks", _layers(record)),
        outputs_section({name: of.outputs for name, of in record.networks.items()}),
        Section("Rungs that do not exist here", _absent(record)),
        Section("Not measured", [Items([("", text) for text in not_measured(record)])]),
        everybody_section(record),
        Section("Time and memory", [Facts(_cost(record))]),
        *manifest_sections(record.manifest),
    ]
    return Part(
        title_of(record),
        headline(record),
        _worst(record),
        [section for section in sections if section.blocks],
        folder,
    )


def title_of(record: LadderRecord) -> str:
    """What was attacked."""
    return f"Attack ladder on {record.source.title}: keep {record.names.primary}, block {record.names.harmful}"


def headline(record: LadderRecord) -> str:
    """What the one defence stops, or how many of several stop what."""
    found = record.rungs
    if not found:
        return UNATTACKED
    kinds = {name: what_it_stops(record, of) for name, of in found.items()}
    if len(found) == 1:
        ((name, kind),) = kinds.items()
        return f"{name} {LADDER_KINDS[kind][2]} {defence_text(record, name)}"
    counts = {kind: list(kinds.values()).count(kind) for kind in LADDER_KINDS}
    told = [f"{count} {LADDER_KINDS[kind][2 if count == 1 else 3]}" for kind, count in counts.items() if count]
    return " ".join([f"Of {len(found)} defences, {told[0]}", *told[1:], *([] if record.own_images else [FLATTERED])])


def claims_of(record: LadderRecord) -> list[str]:
    """What is claimed, one sentence for each rung where a defence stops or weakens anybody."""
    return [f"{defence} {text}" for defence in record.rungs for text in claim_texts(record, defence)]


def not_measured(record: LadderRecord) -> list[str]:
    """What the numbers of this run leave open."""
    edge = list(dict.fromkeys(one.attacker for one in record.tried if _at_edge(one)))
    steps = max((max(one.steps) for one in record.tried), default=0)
    inputs = f"{input_of(record)}s"
    sentences = [
        (True, f"Attackers with more than {record.budgets[-1].images} {inputs}, or more than {steps} steps."),
        (record.seeds == 1, f"Spread over draws of the attackers' {inputs} and over seeds: there was one."),
        (
            not record.own_images,
            f"Attackers with {inputs} of their own: these had {inputs} that a defence was made with, and fare worse on it than "
            "others would.",
        ),
        (
            bool(edge),
            f"The best setting is at the edge of those tried for {listed(edge)}: settings beyond it might do better.",
        ),
        (
            True,
            f"Attackers who gather or generate other {inputs}, distil from the published outputs, prune, merge or edit "
            f"weights. Intervals are those of the judged {inputs} alone, and nothing here is tamper-proof.",
        ),
    ]
    return [text for true, text in sentences if true]


def _verdict(record: LadderRecord) -> list[Block]:
    if not record.rungs:
        return [Text(UNATTACKED)]
    cards = []
    for name, found in record.rungs.items():
        status, label, *_ = LADDER_KINDS[what_it_stops(record, found)]
        cards.append(Card(f"{name}:", status, label, defence_text(record, name)))
    return [Cards(cards), Text(MEANING, quiet=True)]


def _by_defence(record: LadderRecord) -> list[Facts]:
    return [
        Facts([(rung_name(of.rung), rung_text(record, of)) for of in found], title=name)
        for name, found in record.rungs.items()
    ]


def _claims(record: LadderRecord) -> list[Items]:
    items = [(defence, text) for defence in record.rungs for text in claim_texts(record, defence)]
    return [Items(items)] if items else []


def _tasks(record: LadderRecord) -> list[tuple[str, object]]:
    budgets = [
        budget_text(record, budget.images) + ("" if budget.a_class is None else f" ({budget.images})")
        for budget in record.budgets
    ]
    judged = f"{counted(record.judged.rows, input_of(record))}, guessing {percent(record.judged.guessing)}"
    return [
        *task_facts(record.names, record.source),
        ("classes blocked", record.classes),
        (f"attackers' {input_of(record)}s", "; ".join(budgets)),
        ("seen by no defence", record.own_images),
        ("draws of them", record.seeds),
        ("judged on", judged),
        *((rung.name, rung.who) for rung in RUNGS if rung.name not in record.absent),
    ]


def _layers(record: LadderRecord) -> list[Block]:
    figures = layers_figure(record)
    if not figures:
        return []
    return [Text(layers_text(record)), Figures(figures), layers_table(record, list(record.networks))]


def _absent(record: LadderRecord) -> list[Items]:
    return [Items([(f"{name}:", reason) for name, reason in record.absent.items()])] if record.absent else []


def _cost(record: LadderRecord) -> list[tuple[str, object]]:
    seconds = sum(one.seconds for one in record.tried)
    return [
        ("time of all attackers", f"{seconds / 60:.3g} minutes"),
        ("most memory held", f"{record.peak_bytes / 2**30:.3g} GiB"),
    ]


def _at_edge(one: Tried) -> bool:
    """Whether the best setting is the least or the greatest of several that were tried."""
    known = [setting for setting, value in zip(one.settings, one.accuracy, strict=True) if not np.isnan(value)]
    return len(known) > 1 and one.setting in (min(known), max(known))


def _worst(record: LadderRecord) -> Status:
    kinds = {what_it_stops(record, found) for found in record.rungs.values()}
    statuses: list[Status] = [status for kind, (status, *_) in LADDER_KINDS.items() if kind in kinds]
    return statuses[0] if statuses else "neutral"
