"""What several runs say together: what is kept, what is blocked, against whom; one verdict, decided by the weakest figure."""

from collections.abc import Sequence

from cimm_jax.attacks import Claim, claims
from cimm_jax.runs.records import AttackRecord, DiagnoseRecord, ImmunizeRecord, Record, SweepRecord
from cimm_jax.views.attack import gains_figure
from cimm_jax.views.attack_words import budget_text, gain_text, kind_of
from cimm_jax.views.blocks import Facts, Figures, Items, Part, Section, Status, Text
from cimm_jax.views.registry import part_of

__all__ = ["NO_ATTACK", "NO_DEFENCE", "WORDS", "limits", "summarise", "verdict_of"]

WORDS: dict[str, tuple[Status, str, str]] = {
    "gradient": (
        "bad",
        "does not protect: ordinary training on its features learns the blocked task.",
        "do not protect: ordinary training on their features learns the blocked task.",
    ),
    "adaptive": (
        "warn",
        "slows only those who take its features as they come and follow gradients. Whoever whitens, solves or undoes it learns "
        "the blocked task.",
        "slow only those who take their features as they come and follow gradients. Whoever whitens, solves or undoes "
        "them learns the blocked task.",
    ),
    "nobody": (
        "good",
        "was broken by none of the attackers that were run; others were not tried.",
        "were broken by none of the attackers that were run; others were not tried.",
    ),
    "nothing": (
        "neutral",
        "has nothing to protect: nobody learns the blocked task even without it.",
        "have nothing to protect: nobody learns the blocked task even without them.",
    ),
}
"""What is said of one defence and of several, by who broke them."""

NO_ATTACK = "No attacker was run: nothing is known of what is blocked. Run cimm attack on the immunized folders."
NO_DEFENCE = "Only undefended extractors were attacked: nothing is known of any defence."


def summarise(records: Sequence[Record]) -> Part:
    """The part that stands first on a page and in a model card."""
    attacked = [record for record in records if isinstance(record, AttackRecord)]
    headline, status = verdict_of(attacked)
    sentences = [_sentence(record, claim) for record, claim in _claimed(attacked)]
    sections = [
        Section("What is kept, what is blocked, against whom", [Facts(_facts(records, attacked))]),
        Section(
            "What attackers get",
            [Figures([gains_figure(record) for record in attacked])] if attacked else _first(records),
        ),
        Section("In plain words", [Items(sentences)] if sentences else []),
        Section("Limits", [Text(limits(attacked))]),
    ]
    return Part("Model immunization report", headline, status, [section for section in sections if section.blocks])


def verdict_of(attacked: Sequence[AttackRecord]) -> tuple[str, Status]:
    """What needs no theory, and its colour, which is that of the weakest defence."""
    found = _claimed(attacked)
    if not found:
        return NO_DEFENCE if attacked else NO_ATTACK, "neutral"
    kinds = [kind_of(claim) for _, claim in found]
    status: Status = next(WORDS[kind][0] for kind in WORDS if kind in kinds)
    if len(found) == 1:
        return " ".join(_sentence(*found[0])), status
    counts = {kind: kinds.count(kind) for kind in WORDS if kind in kinds}
    told = [f"{count} of {len(found)} defences {WORDS[kind][1 if count == 1 else 2]}" for kind, count in counts.items()]
    return " ".join(told), status


def limits(attacked: Sequence[AttackRecord]) -> str:
    """What nobody should conclude from these runs."""
    if not attacked:
        return "No attacker was run; a condition number alone slows nobody, and nothing here is tamper-proof."
    return (
        "Attackers fitted linear probes on frozen features, with the budgets above. None fine-tuned the extractor, took other "
        "layers or trained longer, and nothing here is tamper-proof."
    )


def _facts(records: Sequence[Record], attacked: Sequence[AttackRecord]) -> list[tuple[str, object]]:
    named = [record for record in records if isinstance(record, AttackRecord | DiagnoseRecord | ImmunizeRecord)]
    kept = dict.fromkeys(record.names.primary for record in named)
    blocked = dict.fromkeys(record.names.harmful for record in named)
    if any(isinstance(record, SweepRecord) for record in records):
        kept, blocked = {**kept, "each digit in turn": None}, {**blocked, "each other digit in turn": None}
    facts: list[tuple[str, object]] = [("kept", "; ".join(kept)), ("blocked", "; ".join(blocked))]
    whom = [f"{len(record.budget.finished)} attackers: {budget_text(record.budget)}" for record in attacked]
    return [*facts, ("against", "; ".join(dict.fromkeys(whom)) or "nobody: no attacker was run")]


def _first(records: Sequence[Record]) -> list[Figures]:
    figures = part_of(records[0]).figures
    return [Figures(figures[:1])] if figures else []


def _claimed(attacked: Sequence[AttackRecord]) -> list[tuple[AttackRecord, Claim]]:
    return [(record, claim) for record in attacked for claim in claims(record.tasks["harmful"], record.records)]


def _sentence(record: AttackRecord, claim: Claim) -> tuple[str, str]:
    return claim.extractor, f"{WORDS[kind_of(claim)][1]} {gain_text(record, claim.extractor)}"
