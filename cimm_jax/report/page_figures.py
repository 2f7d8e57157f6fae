"""Figures of a page: SVG in data URIs, each drawn once for light and once for dark, narrow enough for a phone."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cimm_jax.report.page_blocks import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

PIXELS_PER_INCH = 96
WIDEST_OF_TWO = 18
"""Characters of a label beside another in a legend."""
NARROW, TALL = 3.6, 3.4
"""Inches; 3.6 are 346 CSS pixels, the width of a phone less its margins."""


@dataclass(frozen=True)
class Scheme:
    """Colours of one of the two versions.

    Attributes:
      ink: text.
      quiet: ticks and frames.
      cycle: lines, the first for the undefended extractor.
      tasks: the primary and the harmful task.
      sequential: from nothing to all.
      diverging: below zero, zero, above zero.
    """

    ink: str
    quiet: str
    cycle: tuple[str, ...]
    tasks: Mapping[str, str]
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]

    def colormap(self, name: str) -> "Colormap":
        """A matplotlib colour map of one of the last two."""
        from matplotlib.colors import LinearSegmentedColormap

        return LinearSegmentedColormap.from_list(name, getattr(self, name))

    def settings(self) -> dict[Any, Any]:
        """For matplotlib."""
        from cycler import cycler

        names = ("text.color", "axes.labelcolor", "legend.labelcolor", "axes.titlecolor")
        frames = ("axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
        return {
            **dict.fromkeys(names, self.ink),
            **dict.fromkeys(frames, self.quiet),
            "xtick.labelcolor": self.ink,
            "ytick.labelcolor": self.ink,
            "axes.facecolor": "none",
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.prop_cycle": cycler(color=self.cycle),
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
            "font.size": 9,
            "svg.fonttype": "path",
            "svg.hashsalt": "cimm",
        }


LIGHT = Scheme(
    "#1d2329",
    "#66707a",
    ("#66707a", "#0b62a4", "#c2410c", "#1d7a53", "#8a3ffc", "#a3195b", "#8a6d00", "#6b3d1e", "#007c89", "#3f4f9e"),
    {"primary": "#2a7f62", "harmful": "#b23a48"},
    ("#ffffff", "#8fb4d6", "#1f4a75"),
    ("#a8323f", "#ffffff", "#1f5f9e"),
)
DARK = Scheme(
    "#e4e8ec",
    "#98a3ad",
    ("#98a3ad", "#6cb6ff", "#ff9e64", "#6fd3a3", "#c8a2ff", "#ff8fb8", "#e3c558", "#d3a589", "#5fd4de", "#a9b8ff"),
    {"primary": "#6fd3a3", "harmful": "#ff8f9a"},
    ("#1a1f25", "#35597d", "#b5d6f5"),
    ("#f0848f", "#1a1f25", "#74b2f0"),
)


def figure(
    draw: Callable[["Axes", Scheme], object],
    *,
    alt: str,
    caption: str,
    size: tuple[float, float] = (NARROW, TALL),
    legend: bool = True,
) -> Figure:
    """Draws on one axes in both schemes.

    Args:
      draw: draws on the axes it is given.
      alt: what the picture says, for those who do not see it.
      caption: what is shown; titles are taken off the picture.
      size: inches.
      legend: moves the legend below the axes.
    """
    light, dark = (_svg(draw, scheme, size, legend) for scheme in (LIGHT, DARK))
    width, height = (round(inches * PIXELS_PER_INCH) for inches in size)
    return Figure(_uri(light), _uri(dark), width, height, alt, caption)


def _svg(draw: Callable[["Axes", Scheme], object], scheme: Scheme, size: tuple[float, float], legend: bool) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Drawing

    with rc_context(scheme.settings()):
        drawing = Drawing(figsize=size, layout="constrained")
        axes = drawing.subplots()
        draw(axes, scheme)
        axes.set_title("")
        if legend:
            _legend_below(drawing)
        content = io.BytesIO()
        drawing.savefig(content, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return content.getvalue()


def _legend_below(drawing: Any) -> None:
    """One legend of all axes, two columns below them."""
    handles, labels = [], []
    for axes in drawing.axes:
        for found, into in zip(axes.get_legend_handles_labels(), (handles, labels), strict=True):
            into.extend(found)
        if axes.get_legend() is not None:
            axes.get_legend().remove()
    columns = legend_columns(labels)
    drawing.legend(handles, labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=8)


def legend_columns(labels: Sequence[str]) -> int:
    """As many as fit the width of a phone."""
    return 2 if len(labels) > 1 and max(map(len, labels)) <= WIDEST_OF_TWO else 1


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
