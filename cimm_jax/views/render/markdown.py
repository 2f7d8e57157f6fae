"""Parts in Markdown, to paste into a model card: no HTML gets through, and every figure is told by its text."""

from collections.abc import Sequence

from cimm_jax.errors import printable
from cimm_jax.views.blocks import Block, Cards, Cell, Code, Facts, Figures, Items, Part, Section, Table, Text
from cimm_jax.views.numbers import format_number

__all__ = ["clean", "table_to_markdown", "to_markdown"]


def to_markdown(part: Part, *, level: int = 2) -> str:
    """Everything of a part that is not folded.

    Args:
      part: what to show.
      level: of its heading.
    """
    pieces = [f"{'#' * level} {clean(part.title)}", clean(part.headline)]
    for section in part.sections:
        if not section.folded:
            pieces += _section(section, level + 1)
    return "\n\n".join(pieces)


def table_to_markdown(table: Table) -> str:
    """A table below its caption; smaller lines and marks of a cell stand behind its figure."""
    rows: list[Sequence[str]] = []
    for header, grouped in table.groups:
        if not grouped:
            rows.append([f"*{_cell(header)}*", *[""] * (len(table.columns) - 1)])
        rows += [[_cell(header), *map(_cell, row)] for row in grouped]
    lines = [" | ".join(map(_cell, table.columns)), "|".join(["---"] * len(table.columns)), *map(" | ".join, rows)]
    return f"{clean(table.caption)}:\n\n" + "\n".join(f"| {line} |" for line in lines)


def clean(text: str) -> str:
    """Text on one line that cannot be taken for HTML, for a link or for a picture, and holds no control characters."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace("[", "&#91;")
    return text.strip()


def _section(section: Section, level: int) -> list[str]:
    blocks = [text for block in section.blocks if (text := _block(block))]
    return [f"{'#' * level} {clean(section.title)}", *blocks] if blocks else []


def _block(block: Block) -> str:
    match block:
        case Text(text):
            found = clean(text)
        case Items(items):
            found = "\n".join(f"- {_bold(name)}{clean(text)}" for name, text in items)
        case Cards(cards):
            found = "\n".join(f"- {_bold(card.title)}{clean(card.label)}: {clean(card.text)}" for card in cards)
        case Facts(facts, title):
            heading = f"{_bold(title).strip()}\n\n" if title else ""
            found = heading + "\n".join(f"- {clean(term)}: {clean(_shown(value))}" for term, value in facts)
        case Table():
            found = table_to_markdown(block)
        case Figures(figures):
            found = "\n".join(f"- {clean(figure.caption)} {clean(figure.alt)}" for figure in figures)
        case Code(text):
            lines = [printable(line).replace("```", "'''") for line in text.strip().splitlines()]
            found = "\n".join(["```", *lines, "```"])
    return found


def _cell(value: object) -> str:
    text = " · ".join([value.main, *value.small, *value.marks]) if isinstance(value, Cell) else _shown(value)
    return clean(text).replace("|", "\\|")


def _shown(value: object) -> str:
    return value if isinstance(value, str) else format_number(value)


def _bold(name: str) -> str:
    return f"**{clean(name).replace('*', '')}** " if name else ""
