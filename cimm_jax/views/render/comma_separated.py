"""Tables as comma-separated values, for spreadsheets and programs: numbers in full, and in columns of their own."""

import csv
import io
import re

from cimm_jax.errors import printable
from cimm_jax.views.blocks import Cell, Table
from cimm_jax.views.numbers import format_number, plain

__all__ = ["to_csv"]

_FORMULA = re.compile(r"[=@\t]|[+-](?![\d.]|inf|$)")
"""What a spreadsheet takes for a formula; a number with a sign is none."""


def to_csv(table: Table) -> str:
    """The table with its headers; smaller lines and marks of cells stand in a column of their own behind theirs.

    The row header is repeated in each of its rows; a heading over rows stands in their first column, "group".
    """
    headed = any(not rows for _, rows in table.groups)
    places = range(len(table.columns) - 1)
    rows = [row for _, grouped in table.groups for row in grouped]
    noted = {place for place in places if any(_notes(row[place]) for row in rows)}
    header = [*(["group"] if headed else []), table.columns[0]]
    for place in places:
        name = table.columns[place + 1]
        header += [name, f"{name}, notes"] if place in noted else [name]
    lines, group = [header], ""
    for first, grouped in table.groups:
        group = group if grouped else first
        for row in grouped:
            line = [*([group] if headed else []), first]
            for place in places:
                line += [_main(row[place]), _notes(row[place])] if place in noted else [_main(row[place])]
            lines.append(line)
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([map(_harmless, line) for line in lines])
    return written.getvalue()


def _main(cell: object) -> str:
    if isinstance(cell, Cell):
        return cell.main
    value = plain(cell)
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else value if isinstance(value, str) else format_number(value)


def _notes(cell: object) -> str:
    return "; ".join((*cell.small, *cell.marks)) if isinstance(cell, Cell) else ""


def _harmless(text: str) -> str:
    """Text on one line that no spreadsheet runs: names in records may be anybody's."""
    text = printable(text)
    return f"'{text}" if _FORMULA.match(text) else text
