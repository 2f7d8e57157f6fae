"""Curves against steps: excess loss, condition numbers, losses in training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cimm_jax.views.draw.names import drawn_name
from cimm_jax.views.draw.scheme import Scheme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LEAST_SHOWN", "draw_condition_numbers", "draw_excess", "draw_left", "draw_loss"]

LEAST_SHOWN = 1e-6


def draw_excess(axes: "Axes", scheme: Scheme, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Excess loss left after 0, 1, ... steps by task, undefended dashed and immunized solid."""
    for task, pair in curves.items():
        for state, style, left in zip(("undefended", "immunized"), ("--", "-"), pair, strict=True):
            shown = np.maximum(left, LEAST_SHOWN)
            places = np.arange(len(shown)) + 1
            axes.plot(places, shown, style, color=scheme.tasks[task], label=f"{task} {state}", linewidth=1.6)
    axes.set(xscale="log", yscale="log", ylim=(LEAST_SHOWN, 1.6), xlabel="steps + 1, exact line search")
    axes.set_ylabel("excess loss left")
    _finish(axes)


def draw_left(axes: "Axes", records: Sequence[int], curves: Mapping[str, np.ndarray], undefended: str) -> None:
    """Excess loss left at each record by extractor, the undefended one dashed."""
    for extractor, curve in curves.items():
        shown = np.maximum(np.where(np.isfinite(curve), curve, 1.0), LEAST_SHOWN)
        style = "--" if extractor == undefended else "-"
        axes.plot(records, shown, style, label=drawn_name(extractor), linewidth=1.6)
    axes.set(xscale="log", yscale="log", ylim=(LEAST_SHOWN, 1.6), xlabel="steps", ylabel="excess loss left")
    _finish(axes)


def draw_condition_numbers(axes: "Axes", scheme: Scheme, steps: np.ndarray, kappas: Mapping[str, np.ndarray]) -> None:
    """Condition numbers by task, each of shape (records,), against the steps made before."""
    for task, kappa in kappas.items():
        axes.plot(steps, kappa, color=scheme.tasks[task], label=f"{task} task")
    axes.set(xlabel="step", ylabel="condition number of the probe Hessian", yscale="log")
    _finish(axes)


def draw_loss(axes: "Axes", loss: np.ndarray) -> None:
    """Primary loss of every step."""
    axes.plot(np.arange(1, len(loss) + 1), loss, color="#4c5c96", linewidth=0.9, label="primary loss")
    axes.set(xlabel="step", ylabel="primary loss", yscale="log")
    _finish(axes)


def _finish(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
