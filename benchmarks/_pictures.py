"""Pictures of timings: contenders side by side, and growth, on logarithmic axes."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._timing import Row
from cimm_jax.views.render.picture import legend_below, png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREY = "#33658a", "#9aa5b1"


def dots(rows: Sequence[Row], *, title: str) -> bytes:
    """PNG bytes: the median time of each row on a logarithmic axis of whole decades, the ratios written out."""
    times = np.asarray([1e3 * row.median for row in rows])

    def draw(axes: "Axes") -> None:
        places = np.arange(len(rows))[::-1]
        axes.scatter(times, places, color=[BLUE, *[GREY] * (len(rows) - 1)], s=60, zorder=2)
        for place, time, row in zip(places, times, rows, strict=True):
            axes.annotate(f"{row.median_ratio:.3g} x", (time, place), (0, 8), textcoords="offset points", ha="center")
        axes.set(xscale="log", xlabel="milliseconds, median", title=title, ylim=(-0.5, len(rows) - 0.3))
        axes.set_xlim(10 ** np.floor(np.log10(times.min())), 10 ** np.ceil(np.log10(times.max())))
        axes.set_yticks(places, [row.what for row in rows])
        axes.grid(axis="x", alpha=0.4)

    return _png(draw, (9.5, 1.2 + 0.5 * len(rows)))


def growth(curves: Mapping[str, tuple[Sequence[float], Sequence[float], float]], *, x: str, title: str) -> bytes:
    """PNG bytes: seconds against sizes, both logarithmic.

    Args:
      curves: by name, sizes, seconds and the fitted exponent.
      x: what the sizes are.
      title: over the picture.
    """

    def draw(axes: "Axes") -> None:
        for name, (sizes, times, exponent) in curves.items():
            axes.plot(sizes, np.asarray(times) * 1e3, "o-", label=f"{name}: exponent {exponent:.2f}")
        axes.set(xscale="log", yscale="log", xlabel=x, ylabel="milliseconds, fastest", title=title)
        legend_below(axes.figure, columns=2)

    return _png(draw, (8, 5.5))


def _png(draw: Callable[["Axes"], None], size: tuple[float, float]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    return png_bytes(figure)
