"""Colours of pictures, for light and for dark."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

__all__ = ["DARK", "LIGHT", "Scheme"]


@dataclass(frozen=True)
class Scheme:
    """Colours of one of the two versions.

    Attributes:
      ink: text.
      quiet: ticks and frames.
      paper: behind opaque pictures.
      cycle: lines, the first for the undefended extractor.
      tasks: the primary and the harmful task.
      sequential: from nothing to all.
      diverging: below zero, zero, above zero.
    """

    ink: str
    quiet: str
    paper: str
    cycle: tuple[str, ...]
    tasks: Mapping[str, str]
    sequential: tuple[str, ...]
    diverging: tuple[str, ...]

    def colormap(self, name: str) -> "Colormap":
        """A matplotlib colour map of one of the last two."""
        from matplotlib.colors import LinearSegmentedColormap

        return LinearSegmentedColormap.from_list(name, getattr(self, name))

    def settings(self, *, opaque: bool = False) -> dict[Any, Any]:
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
            "figure.facecolor": self.paper if opaque else "none",
            "savefig.facecolor": self.paper if opaque else "none",
            "axes.prop_cycle": cycler(color=self.cycle),
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
            "font.size": 9,
            "svg.fonttype": "path",
            "svg.hashsalt": "cimm",
        }


LIGHT = Scheme(
    "#1d2329",
    "#66707a",
    "#ffffff",
    ("#66707a", "#0b62a4", "#c2410c", "#1d7a53", "#8a3ffc", "#a3195b", "#8a6d00", "#6b3d1e", "#007c89", "#3f4f9e"),
    {"primary": "#2a7f62", "harmful": "#b23a48"},
    ("#ffffff", "#8fb4d6", "#1f4a75"),
    ("#a8323f", "#ffffff", "#1f5f9e"),
)
DARK = Scheme(
    "#e4e8ec",
    "#98a3ad",
    "#1a1f25",
    ("#98a3ad", "#6cb6ff", "#ff9e64", "#6fd3a3", "#c8a2ff", "#ff8fb8", "#e3c558", "#d3a589", "#5fd4de", "#a9b8ff"),
    {"primary": "#6fd3a3", "harmful": "#ff8f9a"},
    ("#1a1f25", "#35597d", "#b5d6f5"),
    ("#f0848f", "#1a1f25", "#74b2f0"),
)
