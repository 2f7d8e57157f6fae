"""Pictures of timings: bars of ratios, and growth on logarithmic axes."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks._timing import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, GREY = "#33658a", "#9aa5b1"


def bars(rows: Sequence[Row], *, title: str) -> bytes:
    """PNG bytes: the median time of each row beside the first one's, on a logarithmic axis, ratios written out."""

    def draw(axes: "Axes") -> None:
        places = range(len(rows))[::-1]
        axes.barh(places, [1e3 * row.median for row in rows], color=[BLUE, *[GREY] * (len(rows) - 1)])
        for place, row in zip(places, rows, strict=True):
            axes.annotate(f" {row.median_ratio:.3g} x", (1e3 * row.median, place), va="center")
        axes.set(xscale="log", xlabel="milliseconds, median", title=title)
        axes.set_yticks(list(places), [row.what for row in rows])
        axes.margins(x=0.15)

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
        axes.legend()

    return _png(draw, (8, 5.5))


def _png(draw: Callable[["Axes"], None], size: tuple[float, float]) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    draw(axes)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
