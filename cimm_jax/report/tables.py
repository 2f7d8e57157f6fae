"""Tables on the terminal."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

UNLIMITED = 1_000_000


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str) -> None:
    """Prints a table on standard output; numbers are right-aligned, and a pipe gets every column whole."""
    # Without markup and emoji codes: a cell or title that holds "[...]" or ":x:" is printed as it is.
    console = Console(markup=False, emoji=False)
    rows = [[_plain(value) for value in row] for row in rows]
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else format_number(value) for value in row))
    if not console.is_terminal:
        needed = console.measure(table, options=console.options.update(width=UNLIMITED)).maximum
        console = Console(markup=False, emoji=False, width=max(console.width, needed))
    console.print(table)


def format_number(value: object) -> str:
    """Four significant digits, scientific from 1e5 up and below 1e-3; "-" for None and NaN.

    >>> [format_number(value) for value in (12.3456, 250000.0, 0.00012345, 7, None)]
    ['12.35', '2.500e+05', '1.234e-04', '7', '-']
    """
    value = _plain(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if not isinstance(value, float):
        return str(value)
    scientific = value and math.isfinite(value) and not 1e-3 <= abs(value) < 1e5
    return f"{value:.3e}" if scientific else f"{value:.4g}"


def _plain(value: object) -> object:
    """NumPy and JAX scalars as Python's, so that float32 is formatted and aligned as any other number."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value
