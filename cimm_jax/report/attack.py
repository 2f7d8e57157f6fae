"""An attack as a picture: what every attacker left, Figure 1 of the paper, and luck with the learning rate."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cimm_jax.report.attack_facts import LINE_SEARCH, UNDEFENDED, attackers
from cimm_jax.report.heatmap import readable
from cimm_jax.report.png import png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

LEAST_SHOWN = 1e-6
LONGEST_NAME = 32
"""Characters of a name in a picture."""


def attack_plot(results: Mapping[str, Any]) -> bytes:
    """PNG bytes of three panels, from results as they were written to results.json."""
    from matplotlib.figure import Figure

    extractors = list(results["tasks"]["harmful"])
    figure = Figure(figsize=(6.5 + 0.55 * len(extractors) + 9, 7.2), layout="constrained")
    grid = figure.subplots(1, 3, width_ratios=[3 + 0.6 * len(extractors), 4.5, 4.5])
    draw_left(grid[0], results)
    draw_curves(grid[1], results)
    draw_trials(grid[2], results)
    return png_bytes(figure)


def draw_left(axes: "Axes", results: Mapping[str, Any], cmap: "str | Colormap" = "Greys") -> None:
    """Heat map of the excess harmful loss that each attacker leaves of each extractor."""
    harmful = results["tasks"]["harmful"]
    names, extractors = attackers(results), list(harmful)
    values = np.array([[_number(harmful[e][a]["left"]["mean"], 1.0) for e in extractors] for a in names])
    image = axes.imshow(values, cmap=cmap, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(extractors)), map(drawn_name, extractors), rotation=60, ha="right")
    axes.set_yticks(range(len(names)), map(drawn_name, names))
    axes.tick_params(length=0)
    axes.set_title("excess harmful loss left", fontsize=10)
    for row, column in np.ndindex(values.shape):
        value = max(0.0, values[row, column])
        ink = readable(image.to_rgba(np.asarray(value)))
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    gradient = sum(not harmful[UNDEFENDED][name]["adaptive"] for name in names)
    axes.axhline(gradient - 0.5, color="#b23a48", linewidth=1.2)


def draw_curves(axes: "Axes", results: Mapping[str, Any], task: str = "harmful") -> None:
    """Excess loss left against steps by exact line search, or by the first attacker where it was not run."""
    by_extractor = results["tasks"][task]
    name = curve_attacker(results, task)
    for extractor, records in by_extractor.items():
        curve = [max(LEAST_SHOWN, _number(value, 1.0)) for value in records[name]["curve"]]
        axes.plot(
            results["records"],
            curve,
            "--" if extractor == UNDEFENDED else "-",
            label=drawn_name(extractor),
            linewidth=1.6,
        )
    axes.set(xscale="log", yscale="log", ylim=(LEAST_SHOWN, 1.6), xlabel="steps", ylabel="excess loss left")
    axes.set_title(f"{task} task, {name}", fontsize=10)
    _finish(axes)


def curve_attacker(results: Mapping[str, Any], task: str = "harmful") -> str:
    """Whose curves are drawn: exact line search, as in the paper, or the first attacker where it was not run."""
    run = results["tasks"][task][UNDEFENDED]
    return LINE_SEARCH if LINE_SEARCH in run else next(name for name in attackers(results) if name in run)


def draw_trials(axes: "Axes", results: Mapping[str, Any]) -> None:
    """Expected best of the first 1, 2, ... trials (an attacker at a rate) of those who follow gradients."""
    for extractor, kinds in results["best_so_far"].items():
        expected = kinds.get("gradient", kinds["all"])
        shown = [max(LEAST_SHOWN, value) for value in expected]
        style = "--" if extractor == UNDEFENDED else "-"
        axes.plot(range(1, len(shown) + 1), shown, style, label=drawn_name(extractor), linewidth=1.6)
    axes.set(xscale="log", yscale="log", ylim=(LEAST_SHOWN, 1.6), xlabel="trials, gradient attackers at random")
    axes.set_ylabel("expected least excess loss left")
    axes.set_title("harmful task, best so far", fontsize=10)
    _finish(axes)


def drawn_name(name: str) -> str:
    """A name, often that of a folder, as matplotlib draws it: one line, not too long, no mathematics, shown in legends."""
    name = " ".join(name.split())
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 11]}…{name[-10:]}"
    # A legend leaves out names that start with _.
    return (f" {name}" if name.startswith("_") else name).replace("$", r"\$")


def _finish(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


def _number(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
