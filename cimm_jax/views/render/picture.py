"""Figures as files: a PNG of several panels, or SVG in data URIs, drawn once for light and once for dark."""

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from cimm_jax.views.blocks import Figure
from cimm_jax.views.draw.scheme import DARK, LIGHT, Scheme

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["PANEL_HEIGHT", "WIDEST", "data_uris", "legend_below", "legend_columns", "png_bytes", "png_of"]

PANEL_HEIGHT, WIDEST = 4.2, 4
"""Inches of a panel, and how many stand side by side."""


def png_bytes(drawing: "Drawing") -> bytes:
    """A PNG of a finished figure, drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    FigureCanvasAgg(drawing).print_png(content)
    return content.getvalue()


def png_of(figures: Sequence[Figure], *, title: str) -> bytes:
    """PNG bytes of all figures, each a panel with its caption, up to four side by side."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Drawing

    columns = min(WIDEST, len(figures))
    rows = -(-len(figures) // columns)
    height = max(PANEL_HEIGHT, *(figure.size[1] + 0.8 for figure in figures))
    width = max(4.8, *(figure.size[0] + 0.8 for figure in figures))
    with rc_context(LIGHT.settings(opaque=True)):
        drawing = Drawing(figsize=(width * columns, height * rows + 0.4), layout="constrained")
        grid = drawing.subfigures(rows, columns, squeeze=False).flat
        for panel, figure in zip(grid, figures, strict=False):
            axes = panel.subplots()
            figure.draw(axes, LIGHT)
            panel.suptitle(_wrapped(figure.caption, round(14 * width)), fontsize=8.5, x=0.02, ha="left")
            if figure.legend:
                _legend_of_phone(panel)
        drawing.suptitle(title, fontsize=11)
        return png_bytes(drawing)


def data_uris(figure: Figure) -> tuple[str, str]:
    """The figure for a light and for a dark page."""
    light, dark = (_uri(_svg(figure, scheme)) for scheme in (LIGHT, DARK))
    return light, dark


def legend_below(drawing: Any, *, columns: int, side: Literal["left", "center"] = "center", fontsize: int = 9) -> None:
    """One legend of all axes of a figure with constrained layout, below them, so that it hides nothing; each label once."""
    found: dict[str, Any] = {}
    for axes in drawing.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    drawing.legend(
        list(found.values()), list(found), loc=f"outside lower {side}", ncols=columns, frameon=False, fontsize=fontsize
    )


def legend_columns(labels: Sequence[str], widest_of_two: int = 18) -> int:
    """As many as fit the width of a phone."""
    return 2 if len(labels) > 1 and max(map(len, labels)) <= widest_of_two else 1


def _svg(figure: Figure, scheme: Scheme) -> bytes:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Drawing

    with rc_context(scheme.settings()):
        drawing = Drawing(figsize=figure.size, layout="constrained")
        figure.draw(drawing.subplots(), scheme)
        if figure.legend:
            _legend_of_phone(drawing)
        content = io.BytesIO()
        drawing.savefig(content, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return content.getvalue()


def _legend_of_phone(drawing: Any) -> None:
    labels = [label for axes in drawing.axes for label in axes.get_legend_handles_labels()[1]]
    legend_below(drawing, columns=legend_columns(labels), side="left", fontsize=8)


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return textwrap.fill(text, width)


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
