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


def draw_condition_numbers(axes: "Axes", kappas: Mapping, *, colours: Mapping[str, str] = COLOURS) -> None:
    """Condition numbers of both tasks, by task, each of shape (records,)."""
    for task, kappa in kappas.items():
        values = np.asarray(kappa)
        axes.plot(np.arange(1, len(values) + 1), values, color=colours[task], label=f"{task} task")
    axes.set(xlabel="recorded step", ylabel="condition number of the probe Hessian", yscale="log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
