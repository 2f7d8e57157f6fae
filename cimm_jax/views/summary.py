"""What several runs say together: what is kept, what is blocked, against whom; one verdict, decided by the weakest figure."""

from collections.abc import Sequence

from cimm_jax.attacks import Claim, claims
from cimm_jax.runs.records import AttackRecord, DiagnoseRecord, ImmunizeRecord, Record, SweepRecord
from cimm_jax.views.attack import gains_figure
from cimm_jax.views.attack_words import budget_text, gain_text, kind_of
from cimm_jax.views.blocks import Facts, Figures, Items, Part, Section, Status, Text
from cimm_jax.views.numbers import listed
from cimm_jax.views.registry import part_of

__all__ = ["NO_ATTACK", "WORDS", "limits", "names_of", "summary", "verdict_of"]

WORDS: dict[str, tuple[Status, str]] = {
    "gradient": ("bad", "does not protect: ordinary training on its features learns the blocked task."),
    "adaptive": (
        "warn",
        "slows only those who take the features as they come and follow gradients. Whoever whitens, solves or undoes it learns "
        "the blocked task.",
    ),
    "nobody": ("good", "was broken by none of the attackers that were run; others were not tried."),
    "nothing": ("neutral", "has nothing to protect: nobody learns the blocked task even without it."),
}
NO_ATTACK = "No attacker was run: nothing is known of what is blocked. Run cimm attack on the immunized folders."


def summary(records: Sequence[Record]) -> Part:
    """The part that stands first on a page and in a model card."""
    attacked = [record for record in records if isinstance(record, AttackRecord)]
    verdicts = [(record, claim) for record in attacked for claim in claims(record.tasks["harmful"], record.records)]
    headline, status = verdict_of(attacked)
    sections = [
        Section("What is kept, what is blocked, against whom", [Facts(_facts(records, attacked))]),
        Section(
            "What attackers get",
            [Figures([gains_figure(record) for record in attacked])] if attacked else _first(records),
        ),
        Section(
            "In plain words", [Items([_sentence(record, claim) for record, claim in verdicts])] if verdicts else []
        ),
        Section("Limits", [Text(limits(attacked))]),
    ]
    return Part("Model immunization report", headline, status, [section for section in sections if section.blocks])


def verdict_of(attacked: Sequence[AttackRecord]) -> tuple[str, Status]:
    """One sentence that needs no theory, and its colour: the weakest defence decides neither alone, each is counted."""
    found = [claim for record in attacked for claim in claims(record.tasks["harmful"], record.records)]
    if not found:
        return NO_ATTACK, "neutral"
    kinds = [kind_of(claim) for claim in found]
    if len(found) == 1:
        status, words = WORDS[kinds[0]]
        return f"{found[0].extractor} {words} {gain_text(attacked[0], found[0].extractor)}", status
    parts = [
        f"{_defences(kinds.count(kind))} {_plural(WORDS[kind][1], kinds.count(kind))}"
        for kind in WORDS
        if kind in kinds
    ]
    return " ".join(parts), next(WORDS[kind][0] for kind in WORDS if kind in kinds)


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


def _sentence(record: AttackRecord, claim: Claim) -> tuple[str, str]:
    return claim.extractor, f"{WORDS[kind_of(claim)][1]} {gain_text(record, claim.extractor)}"


def _defences(count: int) -> str:
    return f"{count} defence{'' if count == 1 else 's'}"


def _plural(words: str, count: int) -> str:
    if count == 1:
        return words
    singular, plural = (
        ("does not", "slows", "was broken", "has nothing"),
        ("do not", "slow", "were broken", "have nothing"),
    )
    for one, several in zip(singular, plural, strict=True):
        if words.startswith(one):
            words = several + words.removeprefix(one)
    return (
        words.replace("its features", "their features")
        .replace("undoes it", "undoes them")
        .replace("without it", "without them")
    )


def names_of(records: Sequence[Record]) -> str:
    """The kinds of run, like "attack and sweep"."""
    return listed(list(dict.fromkeys(record.manifest.command for record in records)))
