"""How fast a probe learns, before and after: excess loss left against steps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cimm_jax.report.png import png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"primary": "#2a7f62", "harmful": "#b23a48"}


def convergence_plot(curves: Mapping[str, Mapping[str, np.ndarray]], *, title: str) -> bytes:
    """PNG bytes: one panel per set of rows, the excess loss left of both tasks, undefended dashed and immunized solid.

    Args:
      curves: by rows ("train", "heldout"), then by "primary undefended", "primary immunized" and the same for harmful: the
        share left after 0, 1, 2, ... steps.
      title: above the panels.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * len(curves), 3.8), layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (rows, named) in zip(panels, curves.items(), strict=True):
        draw_convergence(axes, named, title=f"{rows} rows")
    panels[0].set_ylabel("excess loss left")
    panels[-1].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    return png_bytes(figure)


def draw_convergence(
    axes: "Axes", curves: Mapping[str, np.ndarray], *, title: str = "", colours: Mapping[str, str] = COLOURS
) -> None:
    """One panel: curves by "primary undefended" and so on."""
    for name, left in curves.items():
        task, state = name.split()
        style = "-" if state == "immunized" else "--"
        shown = np.maximum(left, 1e-6)  # the axis ends there
        axes.plot(np.arange(len(left)) + 1, shown, style, color=colours[task], label=name, linewidth=1.6)
    axes.set(xscale="log", yscale="log", ylim=(1e-6, 1.6), xlabel="steps + 1, exact line search", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
