"""Heat maps over ordered pairs of digits, as in the paper's Figure 2."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from cimm_jax.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = ["DARK", "LIGHT", "MAX_COLUMNS", "common_norm", "draw_panel", "heatmap_grid", "readable"]

MAX_COLUMNS = 2
DARK, LIGHT = "#222222", "#ffffff"


def heatmap_grid(panels: Mapping[str, np.ndarray], *, colour_label: str) -> "Figure":
    """A figure of one heat map per panel, side by side with one colour scale that is white at zero.

    Args:
      panels: by title, values of shape (10, 10): rows are harmful digits, columns primary ones, NaN is left blank. Infinite
        values get the end of the scale and are written out.
      colour_label: what the values are.

    Raises:
      InputError: if there is no panel, or one has another shape or no finite value.
    """
    from matplotlib.figure import Figure

    if not panels:
        raise InputError("panels: is empty; give at least one")
    for title, values in panels.items():
        if np.shape(values) != (10, 10) or not np.isfinite(values).any():
            raise InputError(f"panels[{title!r}]: needs finite values of shape (10, 10), got shape {np.shape(values)}")
    norm = common_norm(panels)
    columns = min(MAX_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.4 * columns + 0.9, 4.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    image = None
    for axes, (title, values) in zip(grid.flat, panels.items(), strict=False):
        image = draw_panel(axes, values, norm)
        with np.errstate(invalid="ignore"):  # both infinities at once have no mean: NaN
            axes.set_title(f"{title}   mean {np.nanmean(values):.2f}")
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    assert image is not None  # there is at least one panel
    figure.colorbar(image, ax=grid, label=f"{colour_label} (above 0: harder for the harmful task)", shrink=0.9)
    return figure


def common_norm(panels: Mapping[str, np.ndarray]) -> "Normalize":
    """One scale for all panels, with zero in its middle."""
    from matplotlib.colors import CenteredNorm

    everything = np.concatenate([np.ravel(values) for values in panels.values()])
    finite = everything[np.isfinite(everything)]
    return CenteredNorm(0, max(np.abs(finite).max(initial=0), 0.1))


def draw_panel(axes: "Axes", values: np.ndarray, norm: "Normalize", cmap: "str | Colormap" = "RdBu") -> "AxesImage":
    """One heat map of shape (10, 10) with its values."""
    shown = np.clip(values, norm.vmin, norm.vmax)  # NaN stays NaN
    image = axes.imshow(shown, cmap=cmap, norm=norm)
    axes.set(xticks=range(10), yticks=range(10), xlabel="primary digit", ylabel="harmful digit")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.argwhere(~np.isnan(values)):
        axes.text(
            column,
            row,
            f"{values[row, column]:z.1f}",
            ha="center",
            va="center",
            fontsize=7.5,
            color=readable(image.to_rgba(shown[row, column])),
        )
    return image


def readable(background) -> str:
    """Whichever of DARK and LIGHT has the higher WCAG contrast ratio on the background."""
    return max((DARK, LIGHT), key=lambda ink: _contrast(ink, background))


def _contrast(one, other) -> float:
    """WCAG 2 contrast ratio of two colours, from 1 to 21."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour) -> float:
    from matplotlib.colors import to_rgb

    srgb = np.array(to_rgb(colour))
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))
