"""What attackers get, in pictures."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cimm_jax.views.draw.curves import LEAST_SHOWN
from cimm_jax.views.draw.heatmap import readable
from cimm_jax.views.draw.names import drawn_name
from cimm_jax.views.draw.scheme import Scheme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LABEL_WIDTH", "draw_gains", "draw_left_map", "draw_trials"]

LABEL_WIDTH = 19
"""Characters in a line of an attacker's name."""


def draw_left_map(
    axes: "Axes", scheme: Scheme, attackers: Sequence[str], extractors: Sequence[str], values: np.ndarray, line_at: int
) -> None:
    """Heat map of the excess loss that each attacker (rows) leaves of each extractor, a line below gradient followers."""
    image = axes.imshow(values, cmap=scheme.colormap("sequential"), vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(extractors)), map(drawn_name, extractors), rotation=60, ha="right")
    labels = [textwrap.fill(drawn_name(name), LABEL_WIDTH) for name in attackers]
    axes.set_yticks(range(len(attackers)), labels)
    axes.tick_params(length=0, labelsize=7.5)
    for label in axes.get_yticklabels():
        label.set(fontsize=6.3 if "\n" in label.get_text() else 7.5, linespacing=0.9)
    for row, column in np.ndindex(values.shape):
        ink = readable(image.to_rgba(np.asarray(values[row, column])))
        axes.text(column, row, f"{values[row, column]:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    axes.axhline(line_at - 0.5, color=scheme.tasks["harmful"], linewidth=1.2)


def draw_trials(axes: "Axes", best: Mapping[str, np.ndarray], undefended: str) -> None:
    """Expected best of the first 1, 2, ... trials (an attacker at a rate) by extractor."""
    for extractor, expected in best.items():
        shown = np.maximum(expected, LEAST_SHOWN)
        style = "--" if extractor == undefended else "-"
        axes.plot(range(1, len(shown) + 1), shown, style, label=drawn_name(extractor), linewidth=1.6)
    axes.set(xscale="log", yscale="log", ylim=(LEAST_SHOWN, 1.6), xlabel="trials, attackers at random")
    axes.set_ylabel("expected least excess loss left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def draw_gains(
    axes: "Axes",
    scheme: Scheme,
    extractors: Sequence[str],
    followers: Sequence[float],
    anybody: Sequence[float],
    label: str,
) -> None:
    """Two bars an extractor, from 0 to 1: what the best gradient follower gets, and the best of all attackers."""
    places = np.arange(len(extractors))[::-1]
    axes.barh(places + 0.2, anybody, 0.36, color=scheme.tasks["harmful"], label="best of all attackers")
    axes.barh(places - 0.2, followers, 0.36, color=scheme.cycle[1], label="best who follows gradients")
    for place, pair in zip(places, zip(anybody, followers, strict=True), strict=True):
        for offset, value in zip((0.2, -0.2), pair, strict=True):
            axes.text(min(value, 1) + 0.01, place + offset, f"{value:.2f}", va="center", fontsize=7.5)
    axes.set_yticks(places, map(drawn_name, extractors))
    axes.set(xlim=(0, 1.12), xlabel=label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, axis="x")
