"""What one renderer shows, all show: terminal, page and Markdown of one part, and none of them lets names do harm."""

import html
import re

import pytest
from pages import Page, page_and_card, undrawn, undrawn_page
from sample_records import changed, network_map_record, renamed, shown_records

from cimm_jax.errors import printable
from cimm_jax.runs.records import typed
from cimm_jax.views.blocks import Cards, Cell, Facts, Figures, Items, Part, Section, Table, Text
from cimm_jax.views.numbers import format_number
from cimm_jax.views.registry import part_of
from cimm_jax.views.render.markdown import to_markdown
from cimm_jax.views.render.terminal import print_part

EVIL = "<script>alert(1)</script>|`&![a](http://b)$\\frac$\n\x1b[31m\u202e"
CONTROL = "[\x00-\x09\x0b-\x1f\x7f\u202e]"
RENDERERS = ("terminal", "page", "markdown")


@pytest.fixture
def rendered(capsys):
    """A part by renderer, as people read it: without escapes, on one line."""

    def render(record) -> dict[str, str]:
        part = part_of(record)
        print_part(part)
        texts = {
            "terminal": capsys.readouterr().out,
            "page": run_on_the_page(record),
            "markdown": html.unescape(to_markdown(part)).replace("\\|", "|"),
        }
        return {name: words(text) for name, text in texts.items()}

    return render


def run_on_the_page(record) -> str:
    """Text of the list of runs and of the run itself, without the model card, which says everything once more."""
    with undrawn():
        page, _ = page_and_card(record)
    return Page(page[page.index("<nav") : page.index('<section class="run" id="model-card">')]).text


def words(text: str) -> str:
    return " ".join(printable(text).split())


def told(section: Section) -> list[str]:
    """Every sentence and every cell of a section."""
    found = [section.title]
    for block in section.blocks:
        match block:
            case Text(text):
                found.append(text)
            case Items(items):
                found += [text for item in items for text in item]
            case Cards(cards):
                found += [text for card in cards for text in (card.title, card.label, card.text)]
            case Facts(facts, title):
                found += [title, *(shown(item) for fact in facts for item in fact)]
            case Table(caption, columns, groups):
                found += [caption, *columns, *(header for header, _ in groups)]
                found += [line for _, rows in groups for row in rows for cell in row for line in lines_of(cell)]
            case Figures(figures):
                found += [figure.caption for figure in figures]
    return [words(text) for text in found if text]


def shown(value: object) -> str:
    return value if isinstance(value, str) else format_number(value)


def lines_of(cell: object) -> list[str]:
    return [cell.main, *cell.small, *cell.marks] if isinstance(cell, Cell) else [shown(cell)]


def test_every_kind_of_block_is_looked_at():
    kinds = {type(block) for r in shown_records() for s in part_of(r).sections if not s.folded for block in s.blocks}
    assert kinds == {Text, Items, Cards, Facts, Table, Figures}


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_what_one_shows_all_show(record, rendered):
    texts, part = rendered(record), part_of(record)
    for name, text in texts.items():
        assert words(part.title) in text, name
        assert words(part.headline) in text, name
        for section in part.sections:
            if section.folded:
                continue
            for expected in told(section):
                assert expected in text, (name, expected)


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_pictures_are_told_in_words_everywhere(record, rendered):
    texts = rendered(record)
    alts = undrawn_page(record).attributes("alt")
    for figure in part_of(record).figures:
        assert words(figure.alt) in texts["terminal"]
        assert words(figure.alt) in texts["markdown"]
        assert figure.alt in alts


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_what_is_folded_is_on_the_page_and_nowhere_else(record, rendered):
    texts = rendered(record)
    folded = [section for section in part_of(record).sections if section.folded]
    assert {"Manifest", "All settings"} <= {section.title for section in folded}
    for section in folded:
        for expected in told(section):
            assert expected in texts["page"], expected
    assert typed(record.manifest.command) in texts["page"]
    for name in ("terminal", "markdown"):
        assert "layout of results.json" not in texts[name]


def with_evil_names(record):
    for name in ("pencil", "adam", "ill_only", "algorithm1", "digits", "digit 0 against digit 1", "p", "h", "train.x"):
        record = renamed(record, name, f"{EVIL}{name}")
    return record


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_names_cannot_write_html_or_move_the_cursor(record, capsys):
    evil = with_evil_names(record)
    with undrawn():
        plain_html, _ = page_and_card(record)
        evil_html, card = page_and_card(evil, folder=EVIL)
    page = Page(evil_html)
    assert {name for name, _ in page.tags} - {"wbr"} == {name for name, _ in Page(plain_html).tags} - {"wbr"}
    assert "<script>alert(1)</script>" in page.text
    assert "<script" not in evil_html
    assert "<" not in card
    assert "](" not in card.replace("&#91;a](", ""), "no link and no picture that whoever looks at it would load"
    assert not re.search(CONTROL, card)
    assert not re.search(CONTROL, evil_html)
    assert to_markdown(part_of(evil)) in card
    print_part(part_of(evil))
    printed = capsys.readouterr().out
    assert "<script>alert(1)</script>" in printed, "on a terminal it is text"
    assert not re.search(CONTROL, printed)


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_names_cannot_break_a_markdown_table_or_heading(record):
    evil = to_markdown(part_of(with_evil_names(record)))
    plain = to_markdown(part_of(record))
    for pattern in ("^#+ ", r"^\|", "^- "):
        assert len(re.findall(pattern, evil, re.MULTILINE)) == len(re.findall(pattern, plain, re.MULTILINE)), pattern
    bars = [
        [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line[:1] == "|"] for text in (evil, plain)
    ]
    assert bars[0] == bars[1]


def test_a_code_block_cannot_be_left():
    from cimm_jax.views.blocks import Code

    part = Part("title", "headline", "good", [Section("code", [Code("a\n```\n<b>\n```")])])
    text = to_markdown(part)
    assert text.count("```") == 2


def test_numbers_are_written_alike_everywhere(rendered):
    record = changed(network_map_record(), "measures", "parts", "train", "ratios", "PseudoInverse", "rir", to=123456.0)
    assert all("1.235e+05" in text for text in rendered(record).values())
