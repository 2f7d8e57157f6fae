"""Parts and tables on the terminal. A number is never cut: a table that is too wide goes on below, its headers again."""

from collections.abc import Sequence
from itertools import takewhile

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text as RichText

from cimm_jax.errors import printable
from cimm_jax.views.blocks import Block, Cards, Cell, Code, Facts, Figures, Items, Part, Section, Table, Text
from cimm_jax.views.numbers import format_number, plain

__all__ = ["BORDERS", "STYLES", "UNLIMITED", "print_part", "print_table"]

UNLIMITED = 1_000_000
BORDERS = 3
"""Characters between two columns."""
_FIRST = -1
"""Place of the column of row headers."""

STYLES = {"good": "green", "warn": "yellow", "bad": "red", "neutral": "bold"}


def print_part(part: Part) -> None:
    """Prints everything that is not folded on standard output."""
    console = _console()
    _print_text(console, part.title, "bold")
    _print_text(console, part.headline, STYLES[part.status])
    for section in part.sections:
        if not section.folded:
            _print_section(console, section)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str) -> None:
    """Prints a table on standard output; numbers are right-aligned, and a pipe gets every column whole."""
    _print_table(_console(), Table(title, columns, [(_shown(row[0]), [row[1:]]) for row in rows]))


def _console() -> Console:
    # Without markup and emoji codes: text that holds "[...]" or ":x:" is printed as it is.
    return Console(markup=False, emoji=False, highlight=False)


def _print_section(console: Console, section: Section) -> None:
    console.print()
    _print_text(console, section.title, "bold underline")
    for block in section.blocks:
        _print_block(console, block)


def _print_block(console: Console, block: Block) -> None:
    match block:
        case Text(text, quiet):
            _print_text(console, text, "dim" if quiet else "")
        case Table():
            _print_table(console, block)
        case Code(text):
            for line in text.splitlines():
                console.print(RichText(printable(line)), soft_wrap=True)
        case Cards(cards):
            for card in cards:
                _print_item(console, f"{card.title} ", card.label, STYLES[card.status], f": {card.text}")
        case Items() | Facts() | Figures():
            _print_list(console, block)


def _print_list(console: Console, block: Items | Facts | Figures) -> None:
    match block:
        case Items(items):
            texts = [f"{name} {text}".strip() for name, text in items]
        case Figures(figures):
            texts = [f"{figure.caption} {figure.alt}" for figure in figures]
        case Facts(facts, title):
            texts = [f"{term}: {_shown(value)}" for term, value in facts]
            if title:
                _print_text(console, title, "bold")
    for text in texts:
        _print_item(console, text)


def _print_text(console: Console, text: str, style: str) -> None:
    console.print(RichText(printable(text), style=style), soft_wrap=not console.is_terminal)


def _print_item(console: Console, text: str, label: str = "", style: str = "", more: str = "") -> None:
    item = (
        RichText("- ") + RichText(printable(text)) + RichText(printable(label), style=style) + RichText(printable(more))
    )
    if console.is_terminal:
        console.print(Padding(item, (0, 0, 0, 2)))
    else:
        console.print(RichText("  ") + item, soft_wrap=True)


def _print_table(console: Console, table: Table) -> None:
    _print_text(console, table.caption, "italic")
    if console.is_terminal:
        for places in _folded(table, console.width):
            console.print(_rich(table, places, _widths(table, places, console.width)))
        return
    whole = _rich(table, range(len(table.columns) - 1))
    needed = console.measure(whole, options=console.options.update(width=UNLIMITED)).maximum
    Console(markup=False, emoji=False, highlight=False, width=max(console.width, needed)).print(whole)


def _folded(table: Table, width: int) -> list[list[int]]:
    """Places of the columns after the first, in runs that fit the width beside it without cutting a number or a word.

    Where a header stands for several rows, each run begins with the columns that tell them apart.
    """
    keys = _keys(table, width)
    first = min(width // 2, _least(table, _FIRST)) + BORDERS + 1 + sum(_least(table, place) + BORDERS for place in keys)
    runs = [[*keys]]
    used = first
    for place in range(len(keys), len(table.columns) - 1):
        needed = _least(table, place) + BORDERS
        if len(runs[-1]) > len(keys) and used + needed > width:
            runs.append([*keys])
            used = first
        runs[-1].append(place)
        used += needed
    return runs


def _keys(table: Table, width: int) -> list[int]:
    """Places of the columns of text behind the header of several rows; none if they would take most of the width."""
    places = range(len(table.columns) - 2 if table.grouped else 0)
    keys = list(takewhile(table.is_words, places))
    needed = sum(_least(table, place) + BORDERS for place in (_FIRST, *keys))
    return keys if needed <= 0.6 * width else []


def _widths(table: Table, places: Sequence[int], width: int) -> list[int]:
    """Of the first column and of these: room for every number and word, and what is left over for columns of text."""
    columns = [_FIRST, *places]
    first = min(width // 2, _least(table, _FIRST))
    widest = width - first - 2 * BORDERS - 1  # of a column that stands alone beside the first
    widths = [first, *(min(widest, _least(table, place)) for place in places)]
    left = width - sum(widths) - BORDERS * len(widths) - 1
    for number, place in enumerate(columns):
        more = min(max(0, left), _longest(_cells(table, place)) - widths[number])
        widths[number] += max(0, more)
        left -= max(0, more)
    return widths


def _least(table: Table, place: int) -> int:
    """Characters that a column needs: those of its longest number, or of its longest word where it holds text."""
    words = [word for text in (_header(table, place), *_cells(table, place)) for word in text.split()]
    return _longest(words if _holds_words(table, place) else [*_header(table, place).split(), *_cells(table, place)])


def _longest(texts: Sequence[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def _holds_words(table: Table, place: int) -> bool:
    return place == _FIRST or table.is_words(place)


def _header(table: Table, place: int) -> str:
    return printable(table.columns[1 + place])


def _cells(table: Table, place: int) -> list[str]:
    if place == _FIRST:
        return [printable(header) for header, _ in table.groups]
    return [_text(row[place]) for _, rows in table.groups for row in rows]


def _rich(table: Table, places: Sequence[int], widths: Sequence[int] | None = None) -> RichTable:
    made = RichTable(show_lines=_has_small_lines(table))
    for number, place in enumerate((_FIRST, *places)):
        made.add_column(
            _header(table, place),
            justify="left" if _holds_words(table, place) else "right",
            overflow="fold",
            width=None if widths is None else widths[number],
        )
    for header, rows in table.groups:
        if not rows:
            made.add_row(RichText(printable(header), style="italic"), *[""] * len(places))
        for number, row in enumerate(rows):
            made.add_row(printable(header) if number == 0 else "", *(_text(row[place]) for place in places))
    return made


def _has_small_lines(table: Table) -> bool:
    return any(isinstance(cell, Cell) and cell.small for _, rows in table.groups for row in rows for cell in row)


def _text(cell: object) -> str:
    if isinstance(cell, Cell):
        return "\n".join(map(printable, [cell.main, *cell.small, *cell.marks]))
    return printable(_shown(cell))


def _shown(value: object) -> str:
    value = plain(value)
    return value if isinstance(value, str) else format_number(value)
