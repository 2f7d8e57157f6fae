"""Figure 3: how linear probes get on, step by step, on the features of networks that were immunized.

The paper's own picture was not at hand; this one shows what its section on networks is about. For every configuration of
table3 that was run: held-out accuracy on the harmful classes against the number of full-batch steps, by gradient descent,
momentum and Adam, at the best of their rates for that many steps, and the same of new probes of the primary classes by the best
of the three. Features are immunized if the former curves lie low and the latter ones where they lay before.

Reads what `experiments.table3_deepnets` and `experiments.table3_tails` wrote; nothing is trained here.

    python -m experiments.figure3 [--runs runs/table3] [--out runs/figure3]
    cimm reproduce figure3

Result: docs/results.md.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cimm_jax.attacks import UNDEFENDED, log_spaced_steps
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.common import drawing_parser
from experiments.measure import mean_and_spread
from experiments.probes import FOLLOWERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEST = "the best"
"""Of the followers, at every number of steps."""

Panels = dict[str, dict[str, np.ndarray]]
"""By attacker and method: accuracy of shape (seeds, records)."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Draws every configuration found as figure3.png, prints the accuracies at a few steps; returns results.json."""
    settings = drawing_parser(__doc__, runs="runs/table3", out="runs/figure3").parse_args(arguments)
    read = {path.parent.name: json.loads(path.read_text()) for path in sorted(settings.runs.glob("*/results.json"))}
    # Beside the configurations, vit/ holds a network's training.
    found = {name: results for name, results in read.items() if "attack_steps" in results}
    if not found:
        raise InputError(f"runs: {settings.runs} has no configuration; finish `cimm reproduce table3` into it first")
    folder = output_folder(settings.out)
    drawn = {
        name: {"records": log_spaced_steps(results["attack_steps"]), "curves": _curves(_runs(results))}
        for name, results in found.items()
    }
    written = write_json(folder / "results.json", drawn)
    picture = write_whole(folder / "figure3.png", _picture(drawn))
    for name, of in drawn.items():
        _print(name, of["records"], of["curves"])
    print(f"\nPicture: {picture}")
    return written


def _runs(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """By method, and by strength where blocks were trained: one record a seed; without those whose features died."""
    if "rows" not in results:
        return results["methods"]
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in results["rows"]:
        strong = row["strength"] not in (0, 1)
        label = f"{row['method']}, strength {row['strength']:g}" if strong else row["method"]
        if not row["broken"]:
            runs.setdefault(label, []).append(row)
    return runs


def _curves(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Panels]:
    """By task; empty where a task has no held-out images."""
    curves: dict[str, Panels] = {"harmful": {}, "primary": {}}
    for method, records in runs.items():
        for task, panels in curves.items():
            by_seed = [record["attacks"].get(task, {}) for record in records]
            names = [name for name in FOLLOWERS if all(name in seed for seed in by_seed)]
            found = {name: np.array([seed[name]["accuracy_curve"] for seed in by_seed]) for name in names}
            if found:
                found[BEST] = np.max(list(found.values()), axis=0)
            for name, accuracy in found.items():
                panels.setdefault(name, {})[method] = accuracy
    return curves


def _print(name: str, records: Sequence[int], curves: dict[str, Panels]) -> None:
    shown = [step for step in (1, 10, 100, 1000) if step < records[-1]] + [records[-1]]
    at = [list(records).index(step) for step in shown]
    columns = ["method", *(f"{task} at {step}" for task in curves for step in shown)]
    best = {task: panels.get(BEST, {}) for task, panels in curves.items()}
    rows = [
        [
            method,
            *(mean_and_spread(of[method][:, place]) if method in of else "-" for of in best.values() for place in at),
        ]
        for method in best["harmful"]
    ]
    print_table(
        columns, rows, title=f"{name}: held-out accuracy of {BEST} of {', '.join(FOLLOWERS)} after so many steps"
    )


def _picture(drawn: dict[str, dict[str, Any]]) -> bytes:
    from matplotlib.figure import Figure

    panels = [*(("harmful", name) for name in FOLLOWERS), ("primary", BEST)]
    figure = Figure(figsize=(16, 3.6 * len(drawn) + 0.6), layout="constrained")
    grid = figure.subplots(len(drawn), len(panels), squeeze=False)
    labels = [label for of in drawn.values() for label in of["curves"]["harmful"].get(BEST, {})]
    methods = list(dict.fromkeys(_method(label) for label in labels if label != UNDEFENDED))
    colours = {UNDEFENDED: "black", **{method: f"C{place}" for place, method in enumerate(methods)}}
    for row, (name, of) in zip(grid, drawn.items(), strict=True):
        for axes, (task, attacker) in zip(row, panels, strict=True):
            _panel(axes, of["records"], of["curves"][task].get(attacker, {}), colours)
            axes.set_title(f"{task}, {attacker}")
        row[0].set_ylabel(f"{name}\nheld-out accuracy")
    legend_below(figure, columns=7)
    return png_bytes(figure)


def _panel(axes: "Axes", records: Sequence[int], by_method: dict[str, np.ndarray], colours: dict[str, str]) -> None:
    """A curve a method, the mean over seeds with their range; a greater strength of a method is dotted in its colour."""
    for label, accuracy in by_method.items():
        colour = colours[_method(label)]
        style = "--" if label == UNDEFENDED else "-" if label == _method(label) else ":"
        axes.plot(records, accuracy.mean(0), style, color=colour, label=label, linewidth=1.5)
        axes.fill_between(records, accuracy.min(0), accuracy.max(0), color=colour, alpha=0.15, linewidth=0)
    if not by_method:
        axes.text(0.5, 0.5, "not tried", ha="center", transform=axes.transAxes)
    axes.set(xscale="log", ylim=(0, 1), xlabel="steps")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _method(label: str) -> str:
    """The method of a row, without its strength."""
    return label.partition(",")[0]


if __name__ == "__main__":
    main()
