"""What a page is made of: sections of paragraphs, lists, cards, facts, tables, figures and code.

Blocks hold plain text; the template escapes it and gives each kind its markup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Status = Literal["good", "warn", "bad", "neutral"]


@dataclass(frozen=True)
class Text:
    """A paragraph; quiet ones explain."""

    kind: ClassVar[str] = "text"
    text: str
    quiet: bool = False


@dataclass(frozen=True)
class Items:
    """A list, each item with an optional name in front."""

    kind: ClassVar[str] = "items"
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

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


@dataclass(frozen=True)
class Facts:
    """Terms and what they are, under a name if they have one; code is set in a fixed-width font."""

    kind: ClassVar[str] = "facts"
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
    """A table that scrolls sideways in its own box; the first column stays.

    Attributes:
      caption: what it shows.
      columns: headers, the first over the row headers.
      groups: a row header with the rows that it stands for, each as long as `columns` less one; without rows, a heading over
        those that follow. Text is aligned left, numbers and cells right.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Sequence[object]]]]

    @property
    def grouped(self) -> bool:
        """Whether a header stands for several rows."""
        return any(len(rows) > 1 for _, rows in self.groups)

    @property
    def classes(self) -> list[str]:
        """Of each column after the first: "words" if it holds text, "" if figures."""
        rows = [row for _, group in self.groups for row in group]
        return [
            "words" if any(isinstance(row[place], str) for row in rows) else ""
            for place in range(len(self.columns) - 1)
        ]


@dataclass(frozen=True)
class Figure:
    """A picture drawn for light and for dark, as data URIs; sizes in CSS pixels."""

    light: str
    dark: str
    width: int
    height: int
    alt: str
    caption: str


@dataclass(frozen=True)
class Figures:
    """Pictures side by side where there is room."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Code:
    """Text to copy."""

    kind: ClassVar[str] = "code"
    text: str


Block = Text | Items | Cards | Facts | Table | Figures | Code


@dataclass(frozen=True)
class Section:
    """A heading with blocks; a folded one opens on request."""

    title: str
    blocks: Sequence[Block]
    folded: bool = False


@dataclass(frozen=True)
class Part:
    """All that is shown of one run.

    Attributes:
      title: heading.
      folder: as it was given.
      headline: the result in one sentence.
      status: its colour.
      sections: in order.
    """

    title: str
    folder: str
    headline: str
    status: Status
    sections: Sequence[Section]
