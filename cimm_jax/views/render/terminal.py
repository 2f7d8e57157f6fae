"""Parts and tables on the terminal. A number is never cut: a table that is too wide goes on below, its first column again."""

import re
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text as RichText

from cimm_jax.views.blocks import Block, Card, Cards, Cell, Code, Facts, Figures, Items, Part, Section, Table, Text
from cimm_jax.views.numbers import format_number, plain

__all__ = ["BORDERS", "STYLES", "UNLIMITED", "print_part", "print_table"]

UNLIMITED = 1_000_000
BORDERS = 3
"""Characters between two columns."""

STYLES = {"good": "green", "warn": "yellow", "bad": "red", "neutral": "bold"}


def print_part(part: Part) -> None:
    """Prints everything that is not folded on standard output."""
    console = _console()
    console.print(RichText(part.title, style="bold"))
    console.print(RichText(part.headline, style=STYLES[part.status]), soft_wrap=True)
    for section in part.sections:
        if not section.folded:
            _print_section(console, section)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str) -> None:
    """Prints a table on standard output; numbers are right-aligned, and a pipe gets every column whole."""
    _print_table(_console(), Table(title, columns, [(str(_shown(row[0])), [row[1:]]) for row in rows]))


def _console() -> Console:
    # Without markup and emoji codes: text that holds "[...]" or ":x:" is printed as it is.
    return Console(markup=False, emoji=False, highlight=False)


def _print_section(console: Console, section: Section) -> None:
    console.print()
    console.print(RichText(section.title, style="bold underline"))
    for block in section.blocks:
        _print_block(console, block)


def _print_block(console: Console, block: Block) -> None:
    match block:
        case Text(text, quiet):
            console.print(RichText(text, style="dim" if quiet else ""), soft_wrap=not console.is_terminal)
        case Items(items):
            for name, text in items:
                _print_item(console, f"{name} {text}".strip())
        case Cards(cards):
            for card in cards:
                _print_card(console, card)
        case Facts(facts, title):
            if title:
                console.print(RichText(title, style="bold"))
            for term, value in facts:
                _print_item(console, f"{term}: {_shown(value)}")
        case Table():
            _print_table(console, block)
        case Figures(figures):
            for figure in figures:
                _print_item(console, f"{figure.caption} {figure.alt}")
        case Code(text):
            console.print(text, soft_wrap=True)


def _print_item(console: Console, text: str) -> None:
    if console.is_terminal:
        console.print(Padding(RichText(f"- {text}"), (0, 0, 0, 2)))
    else:
        console.print(RichText(f"  - {text}"), soft_wrap=True)


def _print_card(console: Console, card: Card) -> None:
    label = RichText(f"  - {card.title} ") + RichText(card.label, style=STYLES[card.status])
    console.print(label + RichText(f": {card.text}"), soft_wrap=not console.is_terminal)


def _print_table(console: Console, table: Table) -> None:
    if console.is_terminal:
        for number, columns in enumerate(_folded(table, console.width)):
            console.print(_rich(table, columns, table.caption if number == 0 else "", narrow=True))
        return
    whole = _rich(table, range(len(table.columns) - 1), table.caption, narrow=False)
    needed = console.measure(whole, options=console.options.update(width=UNLIMITED)).maximum
    Console(markup=False, emoji=False, highlight=False, width=max(console.width, needed)).print(whole)


def _folded(table: Table, width: int) -> list[list[int]]:
    """Places of the columns after the first, in runs that fit the width beside it without cutting a number or a word."""
    first = _needed([table.columns[0], *(header for header, _ in table.groups)], words=True)
    runs: list[list[int]] = [[]]
    used = first + BORDERS + 1
    for place, column in enumerate(table.columns[1:]):
        cells = [_text(row[place]) for _, rows in table.groups for row in rows]
        needed = max(_needed([column], words=True), _needed(cells, words=table.is_words(place))) + BORDERS
        if runs[-1] and used + needed > width:
            runs.append([])
            used = first + BORDERS + 1
        runs[-1].append(place)
        used += needed
    return runs


def _needed(texts: Sequence[str], *, words: bool) -> int:
    """Characters that the longest line takes, or the longest word where lines may break between words."""
    lines = [line for text in texts for line in text.split("\n")]
    pieces = [piece for line in lines for piece in (re.split(r"[ ]", line) if words else [line])]
    return max(map(len, pieces), default=0)


def _rich(table: Table, places: Sequence[int], title: str, *, narrow: bool) -> RichTable:
    made = RichTable(title=title or None, title_justify="left", show_lines=_has_small_lines(table))
    made.add_column(table.columns[0], overflow="fold")
    for place in places:
        words = table.is_words(place)
        made.add_column(
            table.columns[1 + place],
            justify="left" if words else "right",
            no_wrap=narrow and not words,
            overflow="fold",
            min_width=_needed([table.columns[1 + place]], words=True),
        )
    for header, rows in table.groups:
        if not rows:
            made.add_row(RichText(header, style="italic"), *[""] * len(places))
        for number, row in enumerate(rows):
            made.add_row(header if number == 0 else "", *(_text(row[place]) for place in places))
    return made


def _has_small_lines(table: Table) -> bool:
    return any(isinstance(cell, Cell) and cell.small for _, rows in table.groups for row in rows for cell in row)


def _text(cell: object) -> str:
    if isinstance(cell, Cell):
        return "\n".join([cell.main, *cell.small, *cell.marks])
    return str(_shown(cell))


def _shown(value: object) -> str:
    value = plain(value)
    return value if isinstance(value, str) else format_number(value)
