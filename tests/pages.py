"""The page and the card of records, and what a page holds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from unittest.mock import patch

from matplotlib.figure import Figure as Drawing

from cimm_jax.runs.records import Record
from cimm_jax.views.blocks import Figure
from cimm_jax.views.card import model_card
from cimm_jax.views.draw.scheme import LIGHT
from cimm_jax.views.registry import part_of
from cimm_jax.views.render.html import to_html
from cimm_jax.views.summary import summarise

VOID = {"meta", "link", "img", "source", "br", "wbr"}


@contextmanager
def undrawn() -> Iterator[None]:
    """Pages without pictures, which take most of the time; what they say in words stays."""
    with patch("cimm_jax.views.render.html.data_uris", lambda figure: ("data:,light", "data:,dark")):
        yield


@contextmanager
def sketched() -> Iterator[None]:
    """Pictures of commands are drawn, but neither laid out nor coloured, which takes seconds."""
    with patch("cimm_jax.commands.delivery.png_of", sketch):
        yield


def sketch(figures: Sequence[Figure], *, title: str) -> bytes:
    """Draws every figure; its bytes are none of them."""
    assert title
    for figure in figures:
        figure.draw(Drawing().subplots(), LIGHT)
    return b"\x89PNG"


def page_and_card(*records: Record, folder: str = "runs/one") -> tuple[str, str]:
    """What `cimm report` writes of records."""
    together, parts = summarise(records), [part_of(record, folder) for record in records]
    card = model_card(records, together, parts)
    return to_html(together, parts, card, "0"), card


def undrawn_page(*records: Record) -> "Page":
    """What a page of records holds, without its pictures."""
    with undrawn():
        return Page(page_and_card(*records)[0])


class Page(HTMLParser):
    """What a page holds: headings, texts, tags; fails on a tag that is not closed in order.

    Attributes:
      text: all of it, as people read it.
      headings: (level, text) in order.
      tags: (name, attributes) in order.
      headers: (scope, text) of table headers.
      alone: text of every cell, header, item, paragraph and definition.
    """

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.text, self.headings, self.tags, self.headers, self.alone = "", [], [], [], []
        self._open = []
        self.feed(html)
        self.close()
        assert not self._open, [name for name, *_ in self._open]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs), len(self.text)))

    def handle_endtag(self, tag):
        name, attributes, start = self._open.pop()
        assert name == tag, (name, tag, self.getpos())
        text = " ".join(self.text[start:].split())
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append((int(tag[1]), text))
        if tag == "th":
            self.headers.append((attributes["scope"], text))
        if tag in ("td", "th", "li", "p", "dd", "code", "figcaption"):
            self.alone.append(text)

    def handle_data(self, data):
        if not self._open or self._open[-1][0] not in ("style", "title"):
            self.text += data.replace("\N{NO-BREAK SPACE}", " ")

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute, wherever it is."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]
