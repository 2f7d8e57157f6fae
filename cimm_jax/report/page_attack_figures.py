"""The figures of an attack on a page."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from cimm_jax.report.attack import curve_attacker, draw_curves, draw_left, draw_trials, drawn_name
from cimm_jax.report.attack_facts import LINE_SEARCH, attackers
from cimm_jax.report.page_blocks import Figure, Figures
from cimm_jax.report.page_figures import NARROW, TALL, Scheme, figure, legend_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_WIDTH = 19
"""Characters in a line of an attacker's name."""
ROW_HEIGHT = 0.2
"""Inches."""


def attack_figures(results: Mapping[str, Any]) -> Figures:
    """Convergence on the harmful and the primary task, luck with trials, and what each attacker leaves."""
    tasks = [task for task in ("harmful", "primary") if task in results["tasks"]]
    return Figures([*(_curves(results, task) for task in tasks), _trials(results), _heat_map(results)])


def _curves(results: Mapping[str, Any], task: str) -> Figure:
    name = curve_attacker(results, task)
    ends = {e: records[name]["curve"][-1] for e, records in results["tasks"][task].items()}
    who = "gradient descent with exact line search (Figure 1 of the paper)" if name == LINE_SEARCH else name
    aim = "higher is safer" if task == "harmful" else "lower is better"
    return figure(
        lambda axes, _: draw_curves(axes, results, task),
        size=(NARROW, _tall(ends)),
        alt=f"Excess loss of the {task} task left after {results['records'][-1]} steps of {name}: {_values(ends)}.",
        caption=f"{task.capitalize()} task: excess loss left by {who}; {aim}.",
    )


def _trials(results: Mapping[str, Any]) -> Figure:
    best = {extractor: kinds.get("gradient", kinds["all"]) for extractor, kinds in results["best_so_far"].items()}
    count = max(map(len, best.values()))
    ends = {extractor: expected[-1] for extractor, expected in best.items()}
    kind = (
        "gradient followers" if all("gradient" in kinds for kinds in results["best_so_far"].values()) else "attackers"
    )
    return figure(
        lambda axes, _: draw_trials(axes, results),
        size=(NARROW, _tall(ends)),
        alt=f"Least excess harmful loss left after {count} trials of {kind}: {_values(ends)}.",
        caption=f"Harmful task: least excess loss left against trials, an attacker at a rate, of {kind} in random order.",
    )


def _heat_map(results: Mapping[str, Any]) -> Figure:
    harmful = results["tasks"]["harmful"]
    names = [textwrap.fill(drawn_name(name), LABEL_WIDTH) for name in attackers(results)]

    slanted = 0.055 * max(len(drawn_name(name)) for name in harmful)

    def draw(axes: "Axes", scheme: Scheme) -> None:
        draw_left(axes, results, scheme.colormap("sequential"))
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(labelsize=7.5)
        for label in axes.get_yticklabels():
            two_lines = "\n" in label.get_text()
            label.set(fontsize=6.3 if two_lines else 7.5, linespacing=0.9)

    return figure(
        draw,
        size=(max(NARROW, 1.4 + 0.31 * len(harmful)), 0.2 + slanted + ROW_HEIGHT * len(names)),
        alt=f"Heat map of the excess harmful loss that {len(names)} attackers leave of {', '.join(harmful)}; "
        "every value is in the table below.",
        caption="Excess harmful loss that each attacker leaves: 1, nothing learned. Above the line, gradient followers; below, "
        "adaptive attackers.",
        legend=False,
    )


def _tall(extractors: Iterable[str]) -> float:
    """Inches, with room for the legend."""
    names = list(map(drawn_name, extractors))
    return TALL - 0.5 + 0.17 * -(-len(names) // legend_columns(names))


def _values(ends: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {'diverged' if end is None else f'{max(0.0, end):.2g}'}" for name, end in ends.items())
