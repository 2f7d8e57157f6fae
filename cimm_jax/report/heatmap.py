"""Heat maps over ordered pairs of digits, as in the paper's Figure 2."""

import io
from collections.abc import Mapping

import numpy as np

from cimm_jax.errors import InputError

MAX_COLUMNS = 2


def heatmap_grid(panels: Mapping[str, np.ndarray], *, colour_label: str) -> bytes:
    """PNG bytes of one heat map per panel, side by side with one colour scale that is white at zero.

    Args:
      panels: by title, values of shape (10, 10): rows are harmful digits, columns primary ones, NaN is left blank.
      colour_label: what the values are.

    Raises:
      InputError: if there is no panel, or one has another shape or no finite value.
    """
    if not panels:
        raise InputError("panels: is empty; give at least one")
    for title, values in panels.items():
        if np.shape(values) != (10, 10) or not np.isfinite(values).any():
            raise InputError(f"panels[{title!r}]: needs finite values of shape (10, 10), got shape {np.shape(values)}")

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import CenteredNorm
    from matplotlib.figure import Figure

    everything = np.concatenate([np.ravel(values) for values in panels.values()])
    finite = everything[np.isfinite(everything)]
    norm = CenteredNorm(0, max(np.abs(finite).max(), 0.1))
    columns = min(MAX_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(5.4 * columns + 0.9, 4.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    image = None
    for axes, (title, values) in zip(grid.flat, panels.items(), strict=False):
        image = axes.imshow(values, cmap="RdBu", norm=norm)
        axes.set(xticks=range(10), yticks=range(10), xlabel="primary digit", ylabel="harmful digit")
        axes.set_title(f"{title}   mean {np.nanmean(values):.2f}")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for row, column in np.argwhere(np.isfinite(values)):
            value = values[row, column]
            dark = abs(norm(value) - 0.5) > 0.3
            axes.text(
                column,
                row,
                f"{value:.1f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if dark else "#222222",
            )
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    assert image is not None  # there is at least one panel
    figure.colorbar(image, ax=grid, label=f"{colour_label} (above 0: harder for the harmful task)", shrink=0.9)
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()
