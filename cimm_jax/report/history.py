"""The course of one immunization: loss and condition numbers against steps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cimm_jax.methods.protocol import Info
from cimm_jax.report.convergence import COLOURS
from cimm_jax.report.png import png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def history_plot(history: Info, *, title: str) -> bytes:
    """PNG bytes of two panels: the primary loss, and both condition numbers, each on a logarithmic axis.

    Args:
      history: `Immunized.history`, fields of shape (records,).
      title: above the panels.
    """
    from matplotlib.figure import Figure

    steps = np.arange(1, len(np.asarray(history.loss)) + 1)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, np.asarray(history.loss), color="#4c5c96")
    left.set(xlabel="recorded step", ylabel="primary loss", yscale="log")
    draw_condition_numbers(right, {"harmful": history.kappa_harmful, "primary": history.kappa_primary})
    left.spines[["top", "right"]].set_visible(False)
    left.grid(alpha=0.25)
    figure.suptitle(title)
    return png_bytes(figure)


def tail_plot(
    losses: np.ndarray, kappas: Mapping[str, np.ndarray], *, steps: np.ndarray, policy: str, title: str
) -> bytes:
    """PNG bytes of two panels: the primary loss at every step, and both condition numbers where they were looked at.

    Args:
      losses: shape (steps,).
      kappas: by task, shape (records,).
      steps: made before each record, shape (records,).
      policy: of the condition numbers.
      title: above the panels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(np.arange(1, len(losses) + 1), losses, color="#4c5c96", linewidth=0.8)
    left.set(xlabel="step", ylabel="primary loss of the batch", yscale="log")
    left.spines[["top", "right"]].set_visible(False)
    left.grid(alpha=0.25)
    draw_condition_numbers(right, kappas, steps=steps)
    right.set(xlabel="step", ylabel=f"condition number, all training rows\n{policy}")
    figure.suptitle(title)
    return png_bytes(figure)


def draw_condition_numbers(
    axes: "Axes",
    kappas: Mapping,
    *,
    steps: np.ndarray | None = None,
    colours: Mapping[str, str] = COLOURS,
) -> None:
    """Condition numbers of both tasks, by task, each of shape (records,), against steps or else numbers of records."""
    for task, kappa in kappas.items():
        values = np.asarray(kappa)
        places = np.arange(1, len(values) + 1) if steps is None else steps
        axes.plot(places, values, color=colours[task], label=f"{task} task")
    axes.set(xlabel="recorded step", ylabel="condition number of the probe Hessian", yscale="log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
