"""The part of a page on one run of `cimm immunize`: a verdict by Definition 3.1, and what a probe still learns."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cimm_jax.report.attack_words import times
from cimm_jax.report.convergence import draw_convergence
from cimm_jax.report.history import draw_condition_numbers
from cimm_jax.report.page_attack import data_name
from cimm_jax.report.page_blocks import Card, Cards, Figure, Figures, Items, Part, Section, Status, Table, Text
from cimm_jax.report.page_figures import Scheme, figure
from cimm_jax.report.page_tables import ROWS, ratio_table
from cimm_jax.report.tables import format_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_STEPS = (10, 100, 1000)
NOT_MEASURED = (
    "No attacker but gradient descent with exact line search on a linear probe, which the condition numbers bound: no other "
    "optimizer, no attacker who whitens the features, solves the normal equations, undoes the map or fine-tunes the extractor. "
    "cimm attack measures most of these. A large RIR alone slows nobody, and nothing here is tamper-proof."
)


class Slowed(NamedTuple):
    """What exact line search needs for half of a task's excess loss, and what it leaves; None is never.

    Attributes:
      rows: train or heldout.
      task: primary or harmful.
      steps: to half, immunized.
      undefended_steps: the same undefended.
      left: excess loss left at the end.
      undefended_left: the same undefended.
      horizon: the number of steps at the end.
    """

    rows: str
    task: str
    steps: int | None
    undefended_steps: int | None
    left: float
    undefended_left: float
    horizon: int


def immunize_part(results: Mapping[str, Any], folder: str) -> Part:
    """Everything but the manifest."""
    method, verdicts = results["settings"]["method"], results["verdict"]
    parts = {rows: _measured(results, rows) for rows in verdicts}
    slowed = slow_downs(results)
    sections = [
        Section("Verdict", [Cards([_card(rows, verdict) for rows, verdict in verdicts.items()])]),
        Section("Claims", _claims(slowed)),
        Section("Figures", [_figures(results)]),
        Section("What exact line search leaves", _left_table(results["excess_left"])),
        Section("Condition numbers", ratio_table({method: parts}, "method")),
        Section("Not measured", [Text(NOT_MEASURED)]),
    ]
    return Part(
        f"{method} on {data_name(results)}",
        folder,
        f"By Definition 3.1: {_by_rows(verdicts)}.",
        _status(verdicts),
        [section for section in sections if section.blocks],
    )


def slow_downs(results: Mapping[str, Any]) -> list[Slowed]:
    """By rows and task, the harmful one first; empty without targets."""
    found = []
    for rows, curves in results["excess_left"].items():
        for task in ("harmful", "primary"):
            before, after = curves.get(f"{task} undefended"), curves.get(f"{task} immunized")
            if before and after:
                found.append(Slowed(rows, task, _half(after), _half(before), after[-1], before[-1], len(after) - 1))
    return found


def claim_text(slowed: Slowed) -> str:
    """Like "slows X under Y by Z", for either task."""
    start = f"{ROWS[slowed.rows].capitalize()} rows: it slows gradient descent with exact line search on the {slowed.task} task"
    end = (
        f"after {slowed.horizon} steps, {format_number(slowed.left)} of the excess loss is left, undefended "
        f"{format_number(slowed.undefended_left)}."
    )
    if slowed.undefended_steps is None:
        return f"{start} by nothing that can be said: undefended it does not get half way either; {end}"
    steps = slowed.horizon if slowed.steps is None else slowed.steps
    by = f"{'more than ' if slowed.steps is None else ''}{times(steps / slowed.undefended_steps)}"
    return f"{start}, under a budget of {slowed.horizon} steps, by {by} to half; {end}"


def _half(curve: Sequence[float | None]) -> int | None:
    """Steps to half; a curve starts before the first."""
    return next((max(1, steps) for steps, left in enumerate(curve) if left is not None and left <= 0.5), None)


def _by_rows(verdicts: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{'immunized' if verdict['immunized'] else 'NOT immunized'} on {ROWS[rows]} rows"
        for rows, verdict in verdicts.items()
    )


def _status(verdicts: Mapping[str, Any]) -> Status:
    immunized = [verdict["immunized"] for verdict in verdicts.values()]
    return "good" if all(immunized) else "warn" if any(immunized) else "bad"


def _card(rows: str, verdict: Mapping[str, Any]) -> Card:
    immunized = verdict["immunized"]
    label = f"{'immunized' if immunized else 'not immunized'} by Definition 3.1"
    text = ". ".join(verdict["reasons"])
    return Card(f"{ROWS[rows].capitalize()} rows:", "good" if immunized else "bad", label, f"{text}.")


def _claims(slowed: Sequence[Slowed]) -> list[Items | Text]:
    if not slowed:
        return [Text("The tasks have no targets: nothing is claimed about what an attacker learns.")]
    return [Items([("", claim_text(one)) for one in slowed])]


def _measured(results: Mapping[str, Any], rows: str) -> dict[str, Any]:
    return {name: results[name][rows] for name in ("ratios", "limit", "intervals")}


def _left_table(excess: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Table]:
    groups = [
        (
            ROWS[rows],
            [
                [*name.split(), *(curve[steps] if steps < len(curve) else None for steps in SHOWN_STEPS)]
                for name, curve in curves.items()
            ],
        )
        for rows, curves in excess.items()
        if curves
    ]
    columns = ["rows", "task", "extractor", *(f"after {steps} steps" for steps in SHOWN_STEPS)]
    return [Table("Excess loss left: 1, nothing learned", columns, groups)] if groups else []


def _figures(results: Mapping[str, Any]) -> Figures:
    pictures = [_curves(rows, curves) for rows, curves in results["excess_left"].items() if curves]
    if len(results["history"]["kappa_primary"]) > 1:
        pictures.append(_history(results["history"]))
    return Figures(pictures)


def _curves(rows: str, curves: Mapping[str, Sequence[float]]) -> Figure:
    arrays = {name: np.array(curve, float) for name, curve in curves.items()}

    def draw(axes: "Axes", scheme: Scheme) -> None:
        draw_convergence(axes, arrays, colours=scheme.tasks)
        axes.set_ylabel("excess loss left")

    ends = ", ".join(f"{name} {format_number(curve[-1])}" for name, curve in curves.items())
    return figure(
        draw,
        alt=f"Excess loss left at the end on {ROWS[rows]} rows: {ends}.",
        caption=f"{ROWS[rows].capitalize()} rows: excess loss left by exact line search, undefended dashed.",
    )


def _history(history: Mapping[str, Sequence[float | None]]) -> Figure:
    kappas = {task: np.array(history[f"kappa_{task}"], float) for task in ("harmful", "primary")}
    ends = ", ".join(
        f"{task} {format_number(float(k[0]))} to {format_number(float(k[-1]))}" for task, k in kappas.items()
    )
    return figure(
        lambda axes, scheme: draw_condition_numbers(axes, kappas, colours=scheme.tasks),
        alt=f"Condition numbers of the probe Hessians in training: {ends}.",
        caption="Condition numbers of both probe Hessians while the extractor was trained.",
    )
