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

__all__ = ["LABEL_WIDTH", "LEVELS", "draw_gains", "draw_left_map", "draw_trials", "short_number"]

LABEL_WIDTH = 19
"""Characters in a line of an attacker's name."""
LEVELS = (0, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 0.5, 0.7, 0.9, 1)
"""Between which excess loss left has one colour: decades where nearly all is learned, fifths above."""


def draw_left_map(
    axes: "Axes", scheme: Scheme, attackers: Sequence[str], extractors: Sequence[str], values: np.ndarray, line_at: int
) -> None:
    """Heat map of the excess loss that each attacker (rows) leaves of each extractor, a line below gradient followers.

    Args:
      axes: to draw on.
      scheme: of colours.
      attackers: names, those who follow gradients first.
      extractors: names.
      values: excess loss left, shape (attackers, extractors), from 0 to 1; what is outside has the colour of the nearest end.
      line_at: how many follow gradients.
    """
    from matplotlib.colors import BoundaryNorm

    colours = scheme.colormap("sequential").resampled(len(LEVELS) - 1)
    image = axes.imshow(values, cmap=colours, norm=BoundaryNorm(LEVELS, colours.N), aspect="auto")
    axes.set_xticks(
        range(len(extractors)), map(drawn_name, extractors), rotation=60, ha="right", rotation_mode="anchor"
    )
    labels = [textwrap.fill(drawn_name(name), LABEL_WIDTH) for name in attackers]
    axes.set_yticks(range(len(attackers)), labels)
    axes.tick_params(length=0, labelsize=7.5)
    for label in axes.get_yticklabels():
        label.set(fontsize=6.3 if "\n" in label.get_text() else 7.5, linespacing=0.9)
    for row, column in np.ndindex(values.shape):
        ink = readable(image.to_rgba(np.asarray(image.get_array())[row, column]))
        axes.text(
            column, row, short_number(float(values[row, column])), ha="center", va="center", fontsize=7.5, color=ink
        )
    axes.axhline(line_at - 0.5, color=scheme.tasks["harmful"], linewidth=1.2)
    bar = axes.figure.colorbar(image, ax=axes, location="bottom", spacing="uniform", aspect=30, pad=0.02)
    bar.set_ticks(LEVELS, labels=[short_number(level) for level in LEVELS], fontsize=7)
    bar.set_label("excess loss left", fontsize=7.5)


def short_number(value: float) -> str:
    """Of a share, in four characters: two decimals from 0.01 up, one digit below, 0 where pictures of curves end.

    >>> [short_number(value) for value in (1.0, 0.034, 0.00042, 1e-9)]
    ['1.00', '0.03', '4e-4', '0']
    """
    if value < LEAST_SHOWN:
        return "0"
    return f"{value:.2f}" if value >= 0.01 else f"{value:.0e}".replace("e-0", "e-")


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
