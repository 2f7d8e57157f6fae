"""An immunization: a verdict by Definition 3.1, and what a probe still learns."""

import numpy as np

from cimm_jax.measures.excess import ExcessCurves, TaskCurves, steps_to_half
from cimm_jax.runs.records import History, ImmunizeRecord, PrimaryPaid, SeveralTasks, Training
from cimm_jax.views.blocks import Cards, Cell, Facts, Figure, Figures, Items, Part, Section, Status, Table, Text
from cimm_jax.views.draw.curves import draw_condition_numbers, draw_excess, draw_loss
from cimm_jax.views.loading import BEFORE_EXTRACTOR
from cimm_jax.views.manifest import manifest_sections, task_facts
from cimm_jax.views.numbers import format_number, times
from cimm_jax.views.tables import PARTS, group_table, kept_table, network_facts, ratio_table, verdict_card

__all__ = ["NOT_MEASURED", "SHOWN_STEPS", "claims_of", "immunize_part", "title_of"]

SHOWN_STEPS = (10, 100, 1000)
DEFINITION = (
    "Definition 3.1 is about condition numbers, which bound gradient descent with exact line search alone: an extractor "
    "that meets it may still be learned in a few steps by another optimizer, such as Adam. What attackers get is what "
    "cimm attack measures."
)
NOT_MEASURED = (
    "No attacker but gradient descent with exact line search on a linear probe, which the condition numbers bound: no other "
    "optimizer, no attacker who whitens the features, solves the normal equations, undoes the map or fine-tunes the extractor. "
    "cimm attack measures most of these. A large RIR alone slows nobody, and nothing here is tamper-proof."
)


def immunize_part(record: ImmunizeRecord, folder: str = "") -> Part:
    """Everything of an immunization."""
    verdicts = {part: found.verdict for part, found in record.measures.parts.items()}
    figures = _figures(record)
    sections = [
        Section("Tasks", [Facts(task_facts(record.names, record.source)), *network_facts(record.network)]),
        Section(
            "Verdict",
            [
                Cards([verdict_card(part, verdict) for part, verdict in verdicts.items()]),
                *([Text(BEFORE_EXTRACTOR)] if record.network is not None and record.network.of_rows else []),
                Text(DEFINITION, quiet=True),
            ],
        ),
        *([Section("The primary task", [kept_table({record.method: record.kept}, "method")])] if record.kept else []),
        Section("Claims", _claims(record)),
        Section("Figures", [Figures(figures)] if figures else []),
        *_several(record.several),
        Section("What exact line search leaves", _left_table(record)),
        Section("What heads can read", _explained_table(record)),
        Section(
            "Condition numbers",
            [*ratio_table({record.method: record.measures}, "method"), *group_table(record.measures.groups)],
        ),
        *_training(record.training),
        Section("Not measured", [Text(NOT_MEASURED)]),
        *manifest_sections(record.manifest, record.rows),
    ]
    return Part(
        title_of(record),
        f"By Definition 3.1: {_by_part(verdicts)}.",
        _status(verdicts),
        [section for section in sections if section.blocks],
        folder,
    )


def title_of(record: ImmunizeRecord) -> str:
    """The method and what it was used on."""
    on = record.source.title
    trained = "" if record.training is None else f" trained from {record.training.trained_from}"
    if record.network is not None and record.network.of_rows:
        trained = ", as an extractor behind them"
    return f"{record.method} on {on}{trained}: keep {record.names.primary}, block {record.names.harmful}"


def claims_of(record: ImmunizeRecord) -> list[str]:
    """What is claimed: by how much exact line search is slowed on the harmful task, where it is."""
    found = []
    for part, of in record.measures.parts.items():
        curves = None if of.excess is None else of.excess.harmful
        if curves is not None and (text := _claim(part, curves)):
            found.append(text)
    return found


def _claim(part: str, curves: TaskCurves) -> str:
    """Like "slows X under Y by Z"; nothing where nothing is slowed."""
    before, after = steps_to_half(curves.undefended), steps_to_half(curves.immunized)
    if before is None:
        return ""
    reached = curves.horizon if after is None else after
    if reached <= before:
        return ""
    by = f"{'more than ' if after is None else ''}{times(reached / before)}"
    return (
        f"{PARTS[part].capitalize()} rows: it slows gradient descent with exact line search on the harmful task, under a "
        f"budget of {curves.horizon} steps, by {by} to half; after {curves.horizon} steps, "
        f"{format_number(curves.immunized[-1])} of the excess loss is left, undefended {format_number(curves.undefended[-1])}."
    )


def _claims(record: ImmunizeRecord) -> list[Items | Text]:
    if all(of.excess is None or of.excess.harmful is None for of in record.measures.parts.values()):
        return [Text("The harmful task has no targets: nothing is claimed about what an attacker learns.")]
    found = claims_of(record)
    return [Items([("", text) for text in found])] if found else [Text("None: no attacker is slowed.")]


def _by_part(verdicts) -> str:
    return ", ".join(
        f"{'immunized' if verdict.immunized else 'NOT immunized'} on {PARTS[part]} rows"
        for part, verdict in verdicts.items()
    )


def _status(verdicts) -> Status:
    """Never "good": a verdict on condition numbers is no protection."""
    return "warn" if any(verdict.immunized for verdict in verdicts.values()) else "bad"


def _curves(excess: ExcessCurves | None) -> dict[str, TaskCurves]:
    found = {} if excess is None else excess._asdict()
    return {task: curves for task, curves in found.items() if curves is not None}


def _left_table(record: ImmunizeRecord) -> list[Table]:
    groups = []
    for part, of in record.measures.parts.items():
        rows = [
            [task, state, *(curve[steps] if steps < len(curve) else None for steps in SHOWN_STEPS)]
            for task, curves in _curves(of.excess).items()
            for state, curve in curves._asdict().items()
        ]
        groups += [(PARTS[part], rows)] if rows else []
    columns = ["rows", "task", "extractor", *(f"after {steps} steps" for steps in SHOWN_STEPS)]
    return [Table("Excess loss left: 1, nothing learned", columns, groups)] if groups else []


def _explained_table(record: ImmunizeRecord) -> list[Table | Text]:
    parts = {part: of.explained for part, of in record.measures.parts.items() if of.explained is not None}
    groups = [
        (
            PARTS[part],
            [
                [head, *map(format_number, shares)]
                for head, shares in (("linear", of.linear), ("Gaussian kernel", of.kernel))
            ],
        )
        for part, of in parts.items()
    ]
    if not groups:
        return []
    rows = max(of.rows for of in parts.values())
    return [
        Table(
            "Share of the blocked labels' variance that the best head explains",
            ["rows", "head", "undefended", "immunized"],
            groups,
        ),
        Text(
            f"Of heads in closed form, on up to {rows} rows, each label said by the other rows alone: 0 is nothing, however "
            "long anyone descends, whitens or solves. Other heads and other layers: cimm attack --ladder."
        ),
    ]


def _several(several: SeveralTasks | None) -> list[Section]:
    """Each harmful task by itself, and what it costs; nothing where there is one."""
    if several is None:
        return []
    paid = "primary task, blocked"
    groups = [
        (
            one.name,
            [
                [
                    *(
                        Cell("" if of is None else f"{format_number(of.undefended)} to {format_number(of.immunized)}")
                        for of in (one.explained and one.explained.linear, one.explained and one.explained.kernel)
                    ),
                    one.rir,
                    *_paid_cells(one.alone),
                ]
            ],
        )
        for one in several.each
    ]
    groups.append(("all of them", [["", "", "", *_paid_cells(several.paid)]]))
    columns = ["harmful task", "linear heads", "kernel heads", "RIR"]
    columns += [f"{paid} alone: linear heads", "accuracy"]
    return [
        Section(
            "Each harmful task",
            [
                Table(
                    f"{PARTS[several.part].capitalize()} rows: share of the labels' variance explained, before to after",
                    columns,
                    groups,
                ),
                Text(
                    f"Heads in closed form, on {_judging_rows(several)} rows. The map was made for all of them as one task: "
                    "rows below each other, of equal energy, the labels of each in columns of their own. On the right, what a "
                    "map for that task alone leaves of the primary one; last, what this one leaves. Verdict and condition "
                    "numbers here are those of all tasks as one.",
                    quiet=True,
                ),
            ],
        )
    ]


def _judging_rows(several: SeveralTasks) -> str:
    """Of each task, or of all where they are as many."""
    return ", ".join(dict.fromkeys(str(one.explained.rows) for one in several.each if one.explained)) or "no"


def _paid_cells(paid: PrimaryPaid | None) -> list[Cell]:
    if paid is None:
        return [Cell(""), Cell("")]
    of = paid.explained
    return [
        Cell("" if of is None else f"{format_number(of.undefended)} to {format_number(of.immunized)}"),
        Cell("" if paid.accuracy is None else f"{paid.accuracy:.4f}"),
    ]


def _training(training: Training | None) -> list[Section]:
    if training is None:
        return []
    facts: list[tuple[str, object]] = [
        ("blocks trained from", training.trained_from),
        ("weights of the penalties", ", ".join(map(format_number, training.lambdas)) or "none"),
        (
            "primary accuracy that they were set by",
            "none" if training.primary_accuracy is None else format_number(training.primary_accuracy),
        ),
        ("strength of balanced ones", training.strength),
        (
            "weight of the distance from the published outputs",
            f"{format_number(training.distillation)}, at temperature {format_number(training.temperature)}",
        ),
        ("epochs", training.epochs) if training.steps is None else ("steps", training.steps),
        ("primary rows in a step", training.batch_rows),
        ("harmful rows in a step", training.harmful_rows or training.batch_rows),
        ("harmful rows of a class", "two by two" if training.in_pairs else "as they come"),
        ("highest learning rate", training.learning_rate),
        ("longest gradient", training.longest_gradient or "any"),
        ("share of the steps to warm up", training.warmup),
        ("label smoothing", training.label_smoothing),
    ]
    return [Section("Training", [Facts(facts)])]


def _figures(record: ImmunizeRecord) -> list[Figure]:
    pictures = [
        _excess_figure(part, curves) for part, of in record.measures.parts.items() if (curves := _curves(of.excess))
    ]
    return [*pictures, *([] if record.history is None else _history_figures(record.history))]


def _excess_figure(part: str, curves: dict[str, TaskCurves]) -> Figure:
    pairs = {task: (found.undefended, found.immunized) for task, found in curves.items()}
    ends = ", ".join(
        f"{task} {state} {format_number(curve[-1])}"
        for task, pair in pairs.items()
        for state, curve in zip(("undefended", "immunized"), pair, strict=True)
    )
    return Figure(
        lambda axes, scheme: draw_excess(axes, scheme, pairs),
        alt=f"Excess loss left at the end on {PARTS[part]} rows: {ends}.",
        caption=f"{PARTS[part].capitalize()} rows: excess loss left by exact line search, undefended dashed.",
    )


def _history_figures(history: History) -> list[Figure]:
    kappas = {"harmful": history.kappa_harmful, "primary": history.kappa_primary}
    ends = ", ".join(f"{task} {format_number(k[0])} to {format_number(k[-1])}" for task, k in kappas.items())
    floored = f" A floor decided {history.floored} of them." if history.floored else ""
    pictures = [
        Figure(
            lambda axes, scheme: draw_condition_numbers(axes, scheme, history.kappa_steps, kappas),
            alt=f"Condition numbers of the probe Hessians in training, {history.policy}: {ends}.{floored}",
            caption=f"Condition numbers of both probe Hessians during {int(history.kappa_steps[-1])} steps.",
        )
    ]
    if np.isfinite(history.loss).any():
        ends = f"{format_number(history.loss[0])} to {format_number(history.loss[-1])}"
        pictures.append(
            Figure(
                lambda axes, scheme: draw_loss(axes, history.loss),
                alt=f"Primary loss in training: {ends}.",
                caption="Primary loss of the batch at each step.",
                legend=False,
            )
        )
    return pictures
