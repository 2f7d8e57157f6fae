"""Where the text of a page may break, and where not. Both filters escape what they are given."""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

LONG = 13
"""Characters of a word that may break."""


def breakable(name: str) -> "Markup":
    """A name whose long words may break after _, -, / and dots, as HTML.

    >>> breakable("undo + line_search, conjugate_gradient <i>")
    Markup('undo + line_search, conjugate_<wbr>gradient &lt;i&gt;')
    """
    from markupsafe import Markup, escape

    def broken(word: re.Match[str]) -> str:
        return re.sub(r"([_/.-])(?=\w)", r"\1<wbr>", word[0])

    return Markup(re.sub(rf"\S{{{LONG},}}", broken, str(escape(name))))


def prose(text: str) -> "Markup":
    """Text in which numbers like 1.5e-07 stay on one line, as HTML.

    >>> prose("1.5e-07 & less")
    Markup('<span class="number">1.5e-07</span> &amp; less')
    """
    from markupsafe import Markup, escape

    return Markup(re.sub(r"\b\d[\d.]*e-\d+\b", r'<span class="number">\g<0></span>', str(escape(text))))
