"""What every view is made of: sections of paragraphs, lists, cards, facts, tables, figures and code.

Blocks hold plain text and numbers; each renderer escapes, formats and lays them out in its own way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cimm_jax.views.draw.scheme import Scheme

__all__ = [
    "NARROW",
    "PIXELS_PER_INCH",
    "TALL",
    "Block",
    "Card",
    "Cards",
    "Cell",
    "Code",
    "Facts",
    "Figure",
    "Figures",
    "Items",
    "Part",
    "Section",
    "Status",
    "Table",
    "Text",
]

Status = Literal["good", "warn", "bad", "neutral"]

PIXELS_PER_INCH = 96

NARROW, TALL = 3.6, 3.4
"""Inches of a figure; 3.6 are 346 CSS pixels, the width of a phone less its margins."""


@dataclass(frozen=True)
class Text:
    """A paragraph; quiet ones explain."""

    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Items:
    """A list, each item with a name in front, which may be empty."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Card:
    """A verdict: about what, how it stands, and why."""

    title: str
    status: Status
    label: str
    text: str


@dataclass(frozen=True)
class Cards:
    """Verdicts side by side."""

    cards: Sequence[Card]


@dataclass(frozen=True)
class Facts:
    """Terms and what they are, under a name if they have one; code is set in a fixed-width font."""

    facts: Sequence[tuple[str, object]]
    title: str = ""
    code: bool = False


@dataclass(frozen=True)
class Cell:
    """A table cell of a main figure, smaller lines below it, and marks."""

    main: str
    small: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      caption: what it shows.
      columns: headers, the first over the row headers.
      groups: a row header with the rows that it stands for, each as long as `columns` less one; without rows, a heading over
        those that follow. Text is aligned left, numbers and cells right.
    """

    caption: str
    columns: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Sequence[object]]]]

    @property
    def grouped(self) -> bool:
        """Whether a header stands for several rows."""
        return any(len(rows) > 1 for _, rows in self.groups)

    def is_words(self, place: int) -> bool:
        """Whether the column after the first at this place holds text."""
        return any(isinstance(row[place], str) for _, rows in self.groups for row in rows)


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
      draw: draws on axes, in the colours of a scheme.
      alt: what the picture says, for those who do not see it.
      caption: what is shown.
      size: inches.
      legend: whether there is one, which goes below the axes.
    """

    draw: "Callable[[Axes, Scheme], object]"
    alt: str
    caption: str
    size: tuple[float, float] = (NARROW, TALL)
    legend: bool = True


@dataclass(frozen=True)
class Figures:
    """Pictures side by side where there is room."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Code:
    """Text to copy."""

    text: str


Block = Text | Items | Cards | Facts | Table | Figures | Code


@dataclass(frozen=True)
class Section:
    """A heading with blocks. What is folded opens on request on a page, and is left to results.json elsewhere."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False


@dataclass(frozen=True)
class Part:
    """All that is shown of one run, or of all together.

    Attributes:
      title: heading.
      headline: the result in one sentence.
      status: its colour.
      sections: in order.
      folder: of the run, as it was given; empty if there is none.
    """

    title: str
    headline: str
    status: Status
    sections: Sequence[Section]
    folder: str = ""

    @property
    def figures(self) -> list[Figure]:
        """All of its pictures."""
        blocks = (block for section in self.sections for block in section.blocks)
        return [figure for block in blocks if isinstance(block, Figures) for figure in block.figures]
