"""The course of one immunization: loss and condition numbers against steps."""

import io

import numpy as np

from cimm_jax.methods.protocol import Info


def history_plot(history: Info, *, title: str) -> bytes:
    """PNG bytes of two panels: the primary loss, and both condition numbers, each on a logarithmic axis.

    Args:
      history: `Immunized.history`, fields of shape (records,).
      title: above the panels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = np.arange(1, len(np.asarray(history.loss)) + 1)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, np.asarray(history.loss), color="#4c5c96")
    left.set(xlabel="recorded step", ylabel="primary loss", yscale="log")
    right.plot(steps, np.asarray(history.kappa_harmful), color="#b23a48", label="harmful task")
    right.plot(steps, np.asarray(history.kappa_primary), color="#2a7f62", label="primary task")
    right.set(xlabel="recorded step", ylabel="condition number of the probe Hessian", yscale="log")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(title)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
