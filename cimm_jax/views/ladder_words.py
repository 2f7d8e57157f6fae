"""What a ladder of attackers found, in sentences: what each defence stops, rung by rung, and what is claimed of it."""

from collections.abc import Sequence

from cimm_jax.attacks.ladder.by_rung import FAILS, HOLDS, NOTHING, WEAKENS, Finding, RungFinding
from cimm_jax.attacks.ladder.rungs import ANY, FINE_TUNING, HEADS, LAYERS, LINEAR, PROBES, RUNGS
from cimm_jax.attacks.ladder.tried import Reached
from cimm_jax.runs.records import LadderRecord
from cimm_jax.views.blocks import Status
from cimm_jax.views.loading import BEFORE_EXTRACTOR
from cimm_jax.views.numbers import counted, listed, percent
from cimm_jax.views.tables import between

__all__ = [
    "DONE",
    "FLATTERED",
    "LADDER_KINDS",
    "MEANING",
    "against_text",
    "budget_text",
    "claim_texts",
    "climbed",
    "defence_text",
    "input_of",
    "rung_name",
    "rung_text",
    "what_it_stops",
]

LADDER_KINDS: dict[str, tuple[Status, str, str, str]] = {
    "none stopped": (
        "bad",
        "does not protect",
        "does not protect: no kind of attacker that was run is stopped.",
        "do not protect: no kind of attacker that was run is stopped.",
    ),
    "some stopped": (
        "warn",
        "hinders some only",
        "hinders some kinds of attackers only: all others learn the blocked task.",
        "hinder some kinds of attackers only: all others learn the blocked task.",
    ),
    "rest needs no weights": (
        "warn",
        "holds where weights help",
        "holds wherever the published weights help; all others learn the blocked task as well without them.",
        "hold wherever the published weights help; all others learn the blocked task as well without them.",
    ),
    "all stopped": (
        "good",
        "holds against all of these",
        "holds against every kind of attacker that was run; others were not tried.",
        "hold against every kind of attacker that was run; others were not tried.",
    ),
    "nothing to stop": (
        "neutral",
        "nothing to protect",
        "has nothing to protect: the published weights are worth nothing to whoever wants the blocked task.",
        "have nothing to protect: the published weights are worth nothing to whoever wants the blocked task.",
    ),
}
"""What a defence stops: its colour, a label, and what is said of one defence and of several."""

FLATTERED = "Attackers have what the defender had, which flatters the defence."

DONE = {
    PROBES: "fitted linear probes",
    LINEAR: "solved for linear probes",
    HEADS: "fitted nonlinear heads",
    LAYERS: "took other layers",
    FINE_TUNING: "fine-tuned the network",
}
"""What attackers of each rung did."""

MEANING = (
    "The transfer advantage is what the published weights are worth to an attacker: the best attack on them, less the same on "
    "random weights (guessing, where there is no network). A defence holds if, with 95 % confidence, half of it or more is "
    "gone; it weakens attackers if their best loses more accuracy than so many judged rows show by chance; else it does not "
    "stop them. Where the weights are worth nothing, there is nothing to stop. The worst budget decides a rung, the worst "
    "rung the verdict. Intervals are those of the rows judged (95 %)."
)

_WHOM = {
    PROBES: "linear probes fitted by gradients",
    LINEAR: "linear probes by any means",
    HEADS: "nonlinear heads",
    LAYERS: "heads on other layers",
    FINE_TUNING: "fine-tuning",
    ANY.number: "the best of all these attackers",
}

_NAMES = {rung.number: rung.name for rung in (*RUNGS, ANY)}


def rung_name(number: int) -> str:
    """Of a rung, or of all together."""
    return "best of all" if number == ANY.number else _NAMES.get(number, f"rung {number}")


def input_of(record: LadderRecord) -> str:
    """What one of the rows is: "image", "text" or, of an extractor behind features, "row"."""
    return "image" if record.network is None else record.network.inputs.removesuffix("s")


def budget_text(record: LadderRecord, images: int) -> str:
    """Like "5 images a class" and "all 4000 images, about 400 a class"."""
    one = input_of(record)
    budget = next((budget for budget in record.budgets if budget.images == images), None)
    if budget is None:
        return counted(images, one)
    if budget.a_class is None:
        return f"all {images} {one}s, about {images / record.classes:.3g} a class"
    return f"{counted(budget.a_class, one)} a class"


def against_text(record: LadderRecord) -> str:
    """How many attackers there were, on which rungs, and what they had."""
    attackers = {(one.rung, one.attacker, one.place) for one in record.tried}
    rungs = climbed(record)
    budgets = "; ".join(budget_text(record, budget.images) for budget in record.budgets)
    return (
        f"{counted(len(attackers), 'attacker')} on {counted(len(rungs), 'rung')} "
        f"({', '.join(map(rung_name, rungs))}), {counted(record.seeds, 'seed')}: {budgets}"
    )


def climbed(record: LadderRecord) -> list[int]:
    """Numbers of the rungs that there were attackers of, in order."""
    return sorted({one.rung for one in record.tried})


def what_it_stops(record: LadderRecord, found: Sequence[RungFinding]) -> str:
    """What a defence stops: a key of `LADDER_KINDS`; all of them only if every rung that there should be was climbed."""
    words = {of.word for of in found}
    if words <= {NOTHING}:
        return "nothing to stop"
    if words <= {HOLDS, NOTHING} and not _left_out(record):
        return "rest needs no weights" if NOTHING in words else "all stopped"
    return "some stopped" if words & {HOLDS, WEAKENS} else "none stopped"


def defence_text(record: LadderRecord, defence: str) -> str:
    """What a defence stops and what it leaves, for those who do not know the theory."""
    found = record.rungs[defence]
    told = (
        (HOLDS, "holds against"),
        (WEAKENS, "weakens"),
        (FAILS, "does not stop"),
        (NOTHING, "has nothing to stop in"),
    )
    rungs = {word: [_whom(of.rung) for of in found if of.word == word and of.rung != ANY.number] for word, _ in told}
    parts = [f"{said} {listed(rungs[word])}" for word, said in told if rungs[word]]
    sentences = [f"It {'; '.join(parts)}.", _gets_text(record, found[-1].budgets[-1])]
    missing = _left_out(record)
    sentences += [f"Not tried: {listed(missing)}."] if missing else []
    sentences += [] if record.own_images else [FLATTERED]
    sentences += [BEFORE_EXTRACTOR] if record.network is not None and record.network.of_rows else []
    return " ".join(sentences)


def rung_text(record: LadderRecord, of: RungFinding) -> str:
    """What a defence does on one rung, with the figures of the budget that decides."""
    word = f"{of.word} {_whom(of.rung)}" if of.word in (FAILS, WEAKENS) else of.word
    right = percent(of.weakest.defended.accuracy.estimate)
    return f"{word} ({right} right, {_beside(record, of.weakest)}; {budget_text(record, of.weakest.images)})"


def claim_texts(record: LadderRecord, defence: str) -> list[str]:
    """What is claimed: whom the defence stops or weakens under which budget, and by how much."""
    told = {HOLDS: "holds against", WEAKENS: "weakens"}
    return [
        f"{told[of.word]} {_whom(of.rung)} ({budget_text(record, of.weakest.images)}, {counted(record.seeds, 'seed')}): "
        f"{of.weakest.defended.attacker} gets {_shown(of.weakest.defended)} of the held-out {input_of(record)}s right, "
        f"{of.weakest.undefended.attacker} {_shown(of.weakest.undefended)} undefended{_removed(of.weakest)}."
        for of in record.rungs[defence]
        if of.word in told
    ]


def _whom(rung: int) -> str:
    return _WHOM.get(rung, rung_name(rung))


def _left_out(record: LadderRecord) -> list[str]:
    """Names of rungs that were not climbed although a network has them."""
    networked = record.network is not None
    return [rung.name for rung in RUNGS if rung.name in record.absent] if networked else []


def _gets_text(record: LadderRecord, of: Finding) -> str:
    """What whoever tries everything gets, with the most images."""
    right, blocked = percent(of.defended.accuracy.estimate), f"held-out blocked {input_of(record)}s"
    return (
        f"Whoever tries everything here gets {right} of the {blocked} right, with "
        f"{budget_text(record, of.images)} ({_beside(record, of)})."
    )


def _beside(record: LadderRecord, of: Finding) -> str:
    floor = "" if of.floor is None else f"random weights {percent(of.floor.accuracy.estimate)}, "
    return f"undefended {percent(of.undefended.accuracy.estimate)}, {floor}guessing {percent(record.judged.guessing)}"


def _shown(of: Reached) -> str:
    return f"{percent(of.accuracy.estimate)} ({between(of.accuracy)})"


def _removed(of: Finding) -> str:
    if of.removed is None:
        return ""
    return f"; {percent(of.removed.estimate)} ({between(of.removed)}) of the transfer advantage is gone"
