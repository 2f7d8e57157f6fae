"""An attack ladder in pictures: what the best attack of each rung gets, of each layer, and on the way there."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cimm_jax.numerics.interval import Interval
from cimm_jax.views.draw.names import drawn_name
from cimm_jax.views.draw.scheme import Scheme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Course", "draw_courses", "draw_places", "draw_rungs"]

_SPREAD = 0.56
"""Of the networks around their rung, in rungs."""
_FEW = 5
"""Counts that all stand below their axis."""
_MARKED = 20
"""Points of a course that each have a mark."""


class Course(NamedTuple):
    """How accuracy goes with something that attackers have more and more of.

    Attributes:
      counts: of steps, images or trials, ascending.
      accuracy: then.
    """

    counts: Sequence[float]
    accuracy: Sequence[float] | np.ndarray


def draw_rungs(
    axes: "Axes",
    scheme: Scheme,
    rungs: Sequence[str],
    networks: Mapping[str, Sequence[Interval | None]],
    floor: tuple[str, Sequence[Interval | None]] | None,
    guessing: float,
) -> None:
    """Rungs across, accuracy up: a dashed line for the first network and solid ones for the others, with their intervals.

    Args:
      axes: to draw on.
      scheme: of colours.
      rungs: names.
      networks: accuracy by name and rung, None where there is none.
      floor: name and accuracy by rung of what nobody can get below, drawn as bars; None if there is none.
      guessing: accuracy of whoever knows nothing, a thin line.
    """
    places = np.arange(len(rungs))
    for number, (name, found) in enumerate(networks.items()):
        at = places + _offset(number, len(networks))
        middle, below, above = _ends(found)
        (line,) = axes.plot(at, middle, "o-" if number else "o--", markersize=4, linewidth=1.1, label=drawn_name(name))
        axes.errorbar(at, middle, (below, above), fmt="none", ecolor=line.get_color(), elinewidth=1.1, capsize=2)
    if floor is not None:
        name, found = floor
        middle, below, above = _ends(found)
        axes.bar(places, middle, 0.86, color=scheme.quiet, alpha=0.22, label=drawn_name(name))
        axes.errorbar(places, middle, (below, above), fmt="none", ecolor=scheme.quiet, elinewidth=0.8, capsize=6)
    axes.axhline(guessing, color=scheme.ink, linewidth=0.8, linestyle=":", label="guessing")
    axes.set_xticks(places, rungs, fontsize=8, rotation=20, ha="right", rotation_mode="anchor")
    axes.set(xlim=(-0.5, len(rungs) - 0.5), ylim=(0, 1.03), ylabel="held-out accuracy")
    axes.tick_params(axis="x", length=0)
    _finish(axes, "y")


def draw_places(
    axes: "Axes",
    scheme: Scheme,
    places: Sequence[str],
    networks: Mapping[str, Sequence[Interval | None]],
    floor: str,
    guessing: float,
) -> None:
    """Cuts down, the first above, accuracy across; the first network hollow, the one that is a floor a square."""
    rows = np.arange(len(places))[::-1]
    for number, (name, found) in enumerate(networks.items()):
        middle, below, above = _ends(found)
        at = rows - _offset(number, len(networks))
        (points,) = axes.plot(middle, at, "s" if name == floor else "o", markersize=4, label=drawn_name(name))
        if name == floor:
            points.set_color(scheme.ink)
        if number == 0:
            points.set_markerfacecolor("none")
        axes.errorbar(middle, at, xerr=(below, above), fmt="none", ecolor=points.get_color(), capsize=2, elinewidth=1.1)
    axes.axvline(guessing, color=scheme.ink, linewidth=0.8, linestyle=":", label="guessing")
    axes.set_yticks(rows, list(map(drawn_name, places)), fontsize=7.5)
    axes.set(xlim=(0, 1.03), ylim=(-0.6, len(places) - 0.4), xlabel="held-out accuracy")
    _finish(axes, "both")


def draw_courses(
    axes: "Axes", scheme: Scheme, courses: Mapping[str, Course], floor: str, guessing: float, label: str
) -> None:
    """Accuracy against counts by network, the first dashed, the floor dotted.

    Args:
      axes: to draw on.
      scheme: of colours.
      courses: by network.
      floor: name of the network that is one; it need not be there.
      guessing: accuracy of whoever knows nothing, a thin line.
      label: of the counts.
    """
    for number, (name, course) in enumerate(courses.items()):
        style = ":" if name == floor else "-" if number else "--"
        marker = "." if len(course.counts) <= _MARKED else ""
        (line,) = axes.plot(course.counts, course.accuracy, style, marker=marker, linewidth=1.5, label=drawn_name(name))
        if name == floor:
            line.set_color(scheme.ink)
    axes.axhline(guessing, color=scheme.ink, linewidth=0.8, linestyle=":", label="guessing")
    counts = sorted({count for course in courses.values() for count in course.counts})
    # A head before its first step has made none, which a logarithm cannot show.
    axes.set_xscale("log" if all(count > 0 for count in counts) else "symlog")
    if len(counts) <= _FEW:
        axes.set_xticks(counts, [f"{count:g}" for count in counts])
        axes.set_xticks([], minor=True)
    axes.set(ylim=(0, 1.03), xlabel=label, ylabel="held-out accuracy")
    _finish(axes, "both")


def _offset(number: int, count: int) -> float:
    """Of one of so many that stand around one place."""
    return 0.0 if count == 1 else _SPREAD * (number / (count - 1) - 0.5)


def _ends(found: Sequence[Interval | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates, and how far the intervals reach below and above them; NaN where there is none."""
    shown = np.array([(np.nan,) * 3 if of is None else of for of in found], float).reshape(-1, 3)
    below, above = shown[:, 0] - shown[:, 1], shown[:, 2] - shown[:, 0]
    return shown[:, 0], np.maximum(below, 0), np.maximum(above, 0)


def _finish(axes: "Axes", grid: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, axis=grid)  # pyright: ignore
