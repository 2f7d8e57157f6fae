"""Figure 1 of the paper: how fast a linear probe converges on immunized features, by gradient descent with exact line search.

    ||w_t - w*||^2 / ||w_0 - w*||^2          (Eq. 16)

for the harmful and the primary task, on House Prices and on one pair of MNIST tasks (primary 0v1, harmful 2v3), for every
method of the paper and the closed form, on the training rows. The paper shows curves without numbers; there immunized
features are slow on the harmful task and fast on the primary one, and the baselines fail on one of the two. Beside Eq. 16
the excess LOSS left is drawn, which is what an attacker cares for: an error along directions without curvature costs them
nothing.

House Prices uses the Hessians of all rows. MNIST uses those of minibatches of 64, as the released code does: with 784 features
the others cost a hundred times more a step.

    python -m experiments.figure1 --data-dir DIR [--seeds 3] [--rows 1000] [--out runs/figure1]
    cimm reproduce figure1 --data-dir DIR

Run time and result: docs/results.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import attacks
from cimm_jax.attacks import UNDEFENDED, Operator, linear_probe, log_spaced_steps
from cimm_jax.data import load_pair
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.methods import HessianFrom
from cimm_jax.progress import phase
from cimm_jax.tasks import SplitPair, SplitTask
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table
from experiments.common import every_method, extractors, parser

STEPS = 1000
BATCH = 64
SHOWN = (10, 100, 1000)
LEAST_SHOWN = 1e-8
MEASURES = {"norm_ratio": "||w_t - w*||² / ||w_0 - w*||²  (Eq. 16)", "left": "excess loss left"}


def main(arguments: Sequence[str] | None = None) -> Path:
    """Immunizes, attacks with exact line search, draws figure1.png, prints the curves at three steps; returns results.json."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    pairs = {
        "House Prices": load_pair("house_prices", data_dir=settings.data_dir / "house_prices"),
        "MNIST, 0v1 and 2v3": load_pair("mnist", data_dir=settings.data_dir / "mnist", rows=settings.rows),
    }
    curves = {}
    for name, split in pairs.items():
        with phase(name):
            curves[name] = _curves(split, settings, batch_size=BATCH if name.startswith("MNIST") else None)
    records = log_spaced_steps(STEPS)
    results = {"settings": {key: str(value) for key, value in vars(settings).items()}, "records": records}
    written = write_json(folder / "results.json", {**results, "curves": curves})
    picture = write_whole(folder / "figure1.png", _picture(curves, records))
    for name, found in curves.items():
        _print(name, found, records)
    print(f"\nPicture: {picture}")
    return written


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/figure1")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--steps", type=int, default=300, help="steps of the methods that are not closed forms")
    made.add_argument("--rows", type=int, default=1000, help="images a side of each MNIST task")
    return made.parse_args(arguments)


def _curves(
    split: SplitPair, settings: argparse.Namespace, *, batch_size: int | None
) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """By task, method and measure: shape (seeds, records)."""
    hessian = HessianFrom.DATA if batch_size is None else HessianFrom.BATCH
    thetas = extractors(
        every_method(hessian),
        split,
        seeds=settings.seeds,
        first_seed=settings.seed,
        steps=settings.steps,
        batch_size=batch_size,
    )
    named = {f"{method} {seed}": theta for method, found in thetas.items() for seed, theta in enumerate(found)}
    operator = Operator("line_search", linear_probe("line_search", steps=STEPS), random=False)
    curves: dict[str, dict[str, Any]] = {}
    for task in ("harmful", "primary"):
        split_task = jax.tree.map(jnp.asarray, SplitTask(*(getattr(part, task) for part in split)))
        targets = {name: attacks.behind(theta, split_task) for name, theta in named.items()}
        swept = attacks.sweep([operator], targets, keys=jax.random.split(jax.random.key(settings.seed), 1))[
            "line_search"
        ]
        measured = {"norm_ratio": swept.trace.norm_ratio[:, 0, 0], "left": swept.left[:, 0, 0]}
        places = {
            method: [list(named).index(f"{method} {seed}") for seed in range(len(thetas[method]))] for method in thetas
        }
        curves[task] = {
            method: {measure: values[place] for measure, values in measured.items()} for method, place in places.items()
        }
    return curves


def _print(name: str, curves: dict[str, dict[str, dict[str, np.ndarray]]], records: Sequence[int]) -> None:
    at = [list(records).index(step) for step in SHOWN]
    columns = [
        "task",
        "method",
        *(f"Eq. 16 at {step}" for step in SHOWN),
        *(f"excess loss at {step}" for step in SHOWN),
    ]
    rows = [
        [task, method, *(_mean_and_spread(found[measure][:, place]) for measure in MEASURES for place in at)]
        for task, methods in curves.items()
        for method, found in methods.items()
    ]
    print_table(
        columns, rows, title=f"{name}: what gradient descent with exact line search leaves, mean (sd) over seeds"
    )


def _mean_and_spread(values: np.ndarray) -> str:
    mean, spread = values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{mean:.2g} ({spread:.1g})" if spread > 1e-3 * abs(mean) else f"{mean:.2g}"


def _picture(curves: dict[str, Any], records: Sequence[int]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 7.5), layout="constrained")
    grid = figure.subplots(len(curves), 4, squeeze=False, sharex=True)
    for row, (name, by_task) in zip(grid, curves.items(), strict=True):
        panels = [(task, measure) for task in ("harmful", "primary") for measure in MEASURES]
        for axes, (task, measure) in zip(row, panels, strict=True):
            for method, found in by_task[task].items():
                shown = np.maximum(found[measure], LEAST_SHOWN)
                style = "k--" if method == UNDEFENDED else "-"
                line = axes.plot(records, shown.mean(0), style, label=method, linewidth=1.5)[0]
                axes.fill_between(records, shown.min(0), shown.max(0), color=line.get_color(), alpha=0.15, linewidth=0)
            axes.set(
                xscale="log", yscale="log", ylim=(LEAST_SHOWN, 2), title=f"{name}: {task}", ylabel=MEASURES[measure]
            )
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("steps")
    legend_below(figure, columns=8)
    return png_bytes(figure)


if __name__ == "__main__":
    main()
