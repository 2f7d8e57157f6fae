"""The two pictures of docs/concepts.md: what a condition number does to descent, and slow against not there.

* kappa.png: two features, both tasks with kappa 9, and the closed form with the budget "keep". In the space of probes, level
  lines of the loss and the path of gradient descent with exact line search from a zero probe. Theorem 2 of docs/theory.md says
  what the map attains: kappa of the harmful task 9 * 9 * 9 = 729, that of the primary one as before. Labels are those for which
  descent is as slow as kappa allows: of the primary task undefended, of the harmful one protected.
* information.png: digits 0 against 1 kept, 2 against 3 blocked. The loss that line search leaves step by step, and that of a
  solver, who needs one step: a map that slows (`pencil_no_slower`), and one that takes information away (`erase`).

    python -m experiments.concepts [--out docs/pictures]

Seconds on two cores. The tables that it prints have the figures of the page.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import attacks, condition_number, covariance, immunize, methods, probe_hessian
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.data import load_pair
from cimm_jax.files import output_folder, write_whole
from cimm_jax.numerics.convergence import excess_curve
from cimm_jax.tasks import SplitPair, Task, TaskPair
from cimm_jax.views.draw.curves import draw_left
from cimm_jax.views.draw.scheme import LIGHT
from cimm_jax.views.render.picture import legend_below, png_bytes
from cimm_jax.views.render.terminal import print_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS, KAPPA = 40, 9.0
STEPS, LITTLE = 1000, 0.01
"""Of line search, and the excess loss at which a task counts as learned."""
SHOWN = 30
"""Steps of a path."""
TASKS = {"primary": "kept", "harmful": "blocked"}


class Descent(NamedTuple):
    """Gradient descent with exact line search on one task.

    Attributes:
      hessian: of the probe, shape (2, 2).
      start: the zero probe, as seen from the best one, shape (2,).
      path: probes as seen from the best one, shape (SHOWN + 1, 2).
      kappa: of the Hessian.
      steps: until `LITTLE` of the excess loss is left; None if `STEPS` do not reach it.
    """

    hessian: np.ndarray
    start: np.ndarray
    path: np.ndarray
    kappa: float
    steps: int | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws kappa.png and information.png into the folder, and prints what they show."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("docs/pictures"))
    folder = output_folder(made.parse_args(arguments).out)
    with jax.enable_x64(True):
        descents = two_features()
        left = learned()
    for path in (
        write_whole(folder / "kappa.png", _descents_picture(descents)),
        write_whole(folder / "information.png", _information_picture(*left)),
    ):
        print(f"Picture: {path}")
    print_table(
        ["task", "extractor", "kappa", f"steps until {LITTLE:.0%} is left"],
        [
            [TASKS[task], extractor, round(of.kappa, 3), of.steps or f"more than {STEPS}"]
            for (task, extractor), of in descents.items()
        ],
        title="Two features",
    )
    records, curves, solved = left
    print_table(
        ["task", "extractor", *(f"{steps} steps" for steps in (10, 100, STEPS)), "solver"],
        [
            [
                TASKS[task],
                extractor,
                *(float(curve[records.index(at)]) for at in (10, 100, STEPS)),
                solved[task][extractor],
            ]
            for task, by_extractor in curves.items()
            for extractor, curve in by_extractor.items()
        ],
        title="Digits, excess loss left on the rows fitted",
    )


def two_features() -> dict[tuple[str, str], Descent]:
    """Descent by task and extractor: a primary task that is long where the harmful one is short."""
    frame, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((ROWS, 2)))
    sizes = {"primary": np.sqrt([KAPPA, 1.0]), "harmful": np.sqrt([1.0, KAPPA])}
    inputs = TaskPair(**{task: Task(frame * size) for task, size in sizes.items()})
    extractors = {UNDEFENDED: np.eye(2)}
    extractors["protected"] = np.asarray(immunize(methods.pencil(ridge=0.0, rotate=False), inputs).theta)
    found = {}
    for task, worst in (("primary", UNDEFENDED), ("harmful", "protected")):
        # With them the first gradient, theta^T X^T y, has the same length in both directions of the Hessian.
        labels = frame @ (np.linalg.inv(extractors[worst].T) @ [1.0, 1.0] / sizes[task])
        for name, theta in extractors.items():
            found[task, name] = _descent(Task(frame * sizes[task], labels), theta)
    return found


def learned() -> tuple[tuple[int, ...], dict[str, dict[str, np.ndarray]], dict[str, dict[str, float]]]:
    """Records of line search on digits; excess loss left at them by task and extractor; and what a solver leaves."""
    split: SplitPair = jax.tree.map(jnp.asarray, load_pair("digits", primary="0v1", harmful="2v3"))
    extractors = {UNDEFENDED: jnp.eye(split.train.primary.x.shape[1])}
    for name, method in {"pencil_no_slower": methods.pencil_no_slower(), "erase": methods.erase()}.items():
        extractors[name] = immunize(method, split.train).theta
    operators = attacks.standard_operators(("line_search", "normal equations"), steps=STEPS)
    curves, solved = {}, {}
    for task in TASKS:
        targets = {name: attacks.behind(theta, split.task(task)) for name, theta in extractors.items()}
        descended, solver = attacks.sweep(operators, targets, keys=jax.random.split(jax.random.key(0), 1)).values()
        curves[task] = dict(zip(targets, descended.left[:, 0, 0], strict=True))
        solved[task] = dict(zip(targets, map(float, solver.left[:, 0, 0, -1]), strict=True))
    return attacks.log_spaced_steps(STEPS), curves, solved


def _descent(task: Task, theta: np.ndarray) -> Descent:
    hessian = np.asarray(probe_hessian(jnp.asarray(theta), covariance(task.x)))
    start = -np.linalg.solve(hessian, theta.T @ task.x.T @ task.y)
    path = [start]
    for _ in range(SHOWN):
        gradient = hessian @ path[-1]
        bend = gradient @ hessian @ gradient
        path.append(path[-1] - (gradient @ gradient / bend if bend > 0 else 0) * gradient)
    left = np.asarray(excess_curve(task.x @ theta, jnp.asarray(task.y), STEPS))
    reached = np.flatnonzero(left <= LITTLE)
    kappa = float(condition_number(jnp.asarray(hessian)).kappa)
    return Descent(hessian, start, np.array(path), kappa, int(reached[0]) if len(reached) else None)


def _descents_picture(descents: Mapping[tuple[str, str], Descent]) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(LIGHT.settings(opaque=True)):
        figure = Figure(figsize=(9.6, 2.9), layout="constrained")
        for axes, ((task, extractor), of) in zip(figure.subplots(1, len(descents)), descents.items(), strict=True):
            _draw_descent(axes, of, LIGHT.tasks[task])
            learned_after = f"more than {STEPS:,}" if of.steps is None else str(of.steps)
            axes.set_title(f"{TASKS[task]}, {extractor}\nkappa {of.kappa:.3g}; {learned_after} steps", fontsize=9)
        return png_bytes(figure)


def _draw_descent(axes: "Axes", of: Descent, colour: str) -> None:
    """Level lines of the loss around the best probe, a cross, and the path to it; axes in units of the first distance."""
    unit = np.abs(of.start).max()
    across = np.linspace(-1.35, 1.35, 121)
    probes = np.stack(np.meshgrid(across, across), -1) * unit
    loss = np.einsum("...i,ij,...j->...", probes, of.hessian, probes)
    first = of.start @ of.hessian @ of.start
    axes.contour(across, across, loss / first, levels=[0.01, 0.05, 0.2, 0.5, 1, 2], colors=LIGHT.quiet, linewidths=0.6)
    axes.plot(*(of.path / unit).T, "o-", color=colour, markersize=2.5, linewidth=1.2)
    axes.plot(0, 0, "x", color=LIGHT.ink)
    axes.set(xticks=[], yticks=[], xlim=(across[0], across[-1]), ylim=(across[0], across[-1]), aspect="equal")


def _information_picture(
    records: Sequence[int], curves: Mapping[str, Mapping[str, np.ndarray]], solved: Mapping[str, Mapping[str, float]]
) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(LIGHT.settings(opaque=True)):
        figure = Figure(figsize=(9.6, 3.6), layout="constrained")
        for axes, (task, by_extractor) in zip(figure.subplots(1, 2, sharey=True), curves.items(), strict=True):
            draw_left(axes, records, by_extractor, UNDEFENDED)
            axes.set_yscale("linear")
            axes.set(ylim=(-0.03, 1.05), title=f"{TASKS[task]} task")
            for number, left in enumerate(solved[task].values()):
                axes.plot(1.6 * records[-1] * 1.25**number, left, "*", color=LIGHT.cycle[number], markersize=9)
        legend_below(figure, columns=len(curves["harmful"]))
        return png_bytes(figure)


if __name__ == "__main__":
    main()
