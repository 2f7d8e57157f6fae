"""Parts as one HTML document that needs no network and no script."""

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from cimm_jax.errors import printable
from cimm_jax.views.blocks import PIXELS_PER_INCH, Block, Figure, Part
from cimm_jax.views.numbers import format_number
from cimm_jax.views.render.picture import data_uris

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

__all__ = ["LONG", "Picture", "breakable", "prose", "to_html"]

LONG = 13
"""Characters of a word that may break."""

_UNBREAKABLE = "\N{NO-BREAK SPACE}"


class Picture(NamedTuple):
    """A figure drawn for light and for dark, as data URIs; sizes in CSS pixels."""

    light: str
    dark: str
    width: int
    height: int


def to_html(summary: Part, parts: Sequence[Part], card: str, version: str) -> str:
    """The page: what all runs together say first, then each of them, then the model card to copy.

    The same for the same input.
    """
    return _template().render(summary=summary, parts=parts, card=card, version=version)


def breakable(name: str) -> "Markup":
    """A name whose long words may break after _, -, / and dots, as HTML.

    >>> breakable("undo + line_search, conjugate_gradient <i>")
    Markup('undo + line_search, conjugate_<wbr>gradient &lt;i&gt;')
    """
    from markupsafe import Markup, escape

    def broken(word: re.Match[str]) -> str:
        return re.sub(r"([_/.-])(?=\w)", r"\1<wbr>", word[0])

    return Markup(re.sub(rf"\S{{{LONG},}}", broken, str(escape(_clean(name)))))


def prose(text: object) -> "Markup":
    """Text in which numbers like 1.5e-07 stay on one line, as HTML.

    >>> prose("1.5e-07 & less")
    Markup('<span class="number">1.5e-07</span> &amp; less')
    """
    from markupsafe import Markup, escape

    return Markup(re.sub(r"\b\d[\d.]*e-\d+\b", r'<span class="number">\g<0></span>', str(escape(_clean(text)))))


def _picture(figure: Figure) -> Picture:
    width, height = (round(inches * PIXELS_PER_INCH) for inches in figure.size)
    return Picture(*data_uris(figure), width, height)


def _clean(value: object) -> object:
    """Text without control characters; a space that does not break stays one. Markup has been made of clean text."""
    from markupsafe import Markup

    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNBREAKABLE.join(map(printable, value.split(_UNBREAKABLE)))


def _lines(text: str) -> "Markup":
    """Text of several lines, as HTML."""
    from markupsafe import Markup, escape

    return Markup("\n".join(str(escape(_clean(line))) for line in text.split("\n")))


def _kind(block: Block) -> str:
    return type(block).__name__.lower()


@cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        finalize=_clean,
        loader=PackageLoader("cimm_jax.views.render"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number=format_number, breakable=breakable, prose=prose, picture=_picture, kind=_kind, lines=_lines
    )
    return environment.get_template("page.html")
