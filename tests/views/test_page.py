"""The page as a document: valid, self-contained, readable in light and dark, the summary first, the same for the same input."""

import base64
import re
from collections import Counter
from importlib.resources import files
from itertools import pairwise

import pytest
from pages import Page, page_and_card, undrawn, undrawn_page
from sample_records import (
    attack_record,
    immunize_record,
    network_attack_record,
    one_of_each_command,
    renamed,
    shown_records,
    sweep_record,
)

from cimm_jax.views.draw.heatmap import _contrast
from cimm_jax.views.draw.scheme import DARK, LIGHT
from cimm_jax.views.registry import claims_of, part_of
from cimm_jax.views.render.html import breakable, prose
from cimm_jax.views.render.markdown import to_markdown
from cimm_jax.views.render.picture import data_uris, png_of
from cimm_jax.views.summary import summarise

DRAWN = (sweep_record(), immunize_record())
EVIL = "<script>alert(1)</script>|`&$\\frac$\n"


@pytest.fixture(scope="module")
def html():
    """A page of every kind of run, its pictures left out."""
    with undrawn():
        return page_and_card(*one_of_each_command())[0]


@pytest.fixture(scope="module")
def drawn():
    """A page with its pictures: lines, and maps of many colours."""
    return page_and_card(*DRAWN)[0]


def test_it_is_html_that_a_browser_reads_in_standards_mode(html):
    page = Page(html)
    assert html.lstrip().startswith("<!DOCTYPE html>")
    tags = Counter(name for name, _ in page.tags)
    assert tags["html"] == tags["title"] == tags["h1"] == tags["main"] == 1
    assert ("html", {"lang": "en"}) in page.tags
    assert any("width=device-width" in content for content in page.attributes("content"))
    identifiers = page.attributes("id")
    assert len(identifiers) == len(set(identifiers))
    for link in page.attributes("href"):
        assert link == "data:," or link[1:] in identifiers


def test_headings_do_not_skip_a_level(html):
    levels = [level for level, _ in Page(html).headings]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_summary_stands_before_any_run():
    records = [immunize_record(), attack_record()]
    page = undrawn_page(*records)
    together = summarise(records)
    titles = [text for level, text in page.headings if level < 3]
    first_run = titles.index(part_of(records[0]).title)
    assert titles[0] == together.title
    assert titles[1 : first_run - 1] == [section.title for section in together.sections]
    assert titles[first_run - 1] == "Runs"
    assert page.alone[0] == together.headline, "the verdict comes before everything else"
    shown = page.text[: page.text.index("Runs")]
    for text in (together.headline, "kept", "blocked", "against", "4 attackers"):
        assert " ".join(text.split()) in " ".join(shown.split())
    assert page.attributes("alt")[0] == together.figures[0].alt


def test_runs_come_in_the_order_given():
    for order in (one_of_each_command(), one_of_each_command()[::-1]):
        page = undrawn_page(*order)
        expected = [part_of(record).title for record in order]
        titles = [text for level, text in page.headings if level == 2]
        together = [section.title for section in summarise(order).sections]
        assert titles == [*together, "Runs", *expected, "Model card"]
        links = [at for at in page.attributes("href") if at.startswith("#")]
        assert links == [f"#run-{number}" for number in range(1, 5)]


@pytest.mark.parametrize("record", shown_records(), ids=lambda record: type(record).__name__)
def test_claims_hold_claims_only(record):
    claims = [section for section in part_of(record).sections if section.title == "Claims"]
    assert len(claims) == (1 if claims_of(record) else 0)
    for section in claims:
        (items,) = section.blocks
        assert [f"{name} {text}".strip() for name, text in items.items] == claims_of(record)
        claim = "slows .* by (more than )?[0-9.,]+x|(holds against|weakens) .* of the transfer advantage is gone"
        assert all(re.search(claim, text) for _, text in items.items)


def test_tables_have_captions_scoped_headers_and_full_rows(html):
    page = Page(html)
    tags = Counter(name for name, _ in page.tags)
    assert tags["table"] == tags["caption"] > 5
    for table in re.findall(r"<table>.*?</table>", html, re.DOTALL):
        columns = len(re.findall('scope="col"', table))
        spans = 0
        for row in re.findall("<tr.*?</tr>", table, re.DOTALL)[1:]:
            if "colgroup" in row:
                assert f'colspan="{columns}"' in row
                continue
            header = re.search(r'rowspan="(\d+)"', row)
            spans = int(header[1]) if header else 1 if "<th" in row else spans
            assert row.count("<td") == columns - 1, row
            assert "<th" in row or spans > 1
            spans -= 0 if "<th" in row else 1


def test_every_table_is_in_a_box_that_scrolls_and_prints_whole(html):
    boxes = re.findall(r'<div class="scroll" role="region" aria-label="[^"]+" tabindex="0">\s*<table>', html)
    assert len(boxes) == html.count("<table>") > 5
    css = (files("cimm_jax.views.render") / "templates" / "page.css").read_text()
    screen, paper = css.split("@media print")
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", screen)
    assert re.search(r"\.scroll \{[^}]*overflow: visible", paper)
    assert re.search(r"th, td \{[^}]*white-space: normal", paper), "lines break where nobody can scroll"


def test_nothing_is_fetched(drawn):
    page = Page(drawn)
    for attribute in ("src", "srcset"):
        for value in page.attributes(attribute):
            assert value.startswith("data:image/svg+xml;base64,")
    names = {name for name, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "form", "base"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert not re.search(r"@import|url\(|https?:", drawn)
    assert any("default-src 'none'" in content for content in page.attributes("content"))


def test_pictures_are_drawn_for_light_and_dark_and_hold_no_links(drawn):
    page = Page(drawn)
    light, dark = page.attributes("src"), page.attributes("srcset")
    parts = [part_of(record) for record in DRAWN]
    assert len(light) == len(dark) == len(page.attributes("alt")) == 1 + sum(len(part.figures) for part in parts)
    for one, other in zip(light, dark, strict=True):
        drawings = [base64.b64decode(uri.split(",")[1]).decode() for uri in (one, other)]
        assert drawings[0] != drawings[1]
        for drawing in drawings:
            assert "<svg" in drawing
            assert all(link.startswith(("#", "data:image/png")) for link in re.findall(r'href="\s*([^"]*)"', drawing))
            assert not re.search(r"<(script|foreignObject)", drawing)
        assert LIGHT.ink in drawings[0]
        assert DARK.ink in drawings[1]
        assert LIGHT.ink not in drawings[1], "dark ink on a dark page"


def test_names_cannot_break_a_picture():
    record = renamed(renamed(attack_record(), "pencil", EVIL), "adam", "_hidden")
    part = part_of(renamed(record, "pencil_no_slower", "_hidden"))
    assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")


def test_same_input_same_bytes(html, drawn):
    with undrawn():
        assert page_and_card(*one_of_each_command())[0] == html
    figure = part_of(DRAWN[0]).figures[0]
    assert all(uri in drawn for uri in data_uris(figure))


def test_manifest_holds_command_seed_versions_and_every_checksum():
    page = undrawn_page(*one_of_each_command(), network_attack_record())
    for record in one_of_each_command():
        manifest = record.manifest
        assert manifest.command_line in page.alone
        assert all(checksum in page.alone for checksum in manifest.data_sha256.values())
        assert ", ".join(f"{name} {version}" for name, version in manifest.versions.items()) in page.alone
    assert (
        "cimm attack --rows 20 --methods pencil pencil_no_slower --attackers line_search adam sgd newton --attack-steps 20 "
        "--rates 3 --seeds 2" in page.alone
    )
    assert "cimm immunize --no-rotate --steps 4 --resamples 20" in page.alone
    assert "2, split from it" in page.alone


def test_the_model_card_is_shown_whole_to_be_copied(html):
    with undrawn():
        _, card = page_and_card(*one_of_each_command())
    (shown,) = re.findall(r"<pre[^>]*><code>(---\n.*?)</code></pre>", html, re.DOTALL)
    assert Page(f"<pre>{shown}</pre>").text == card.replace("\N{NO-BREAK SPACE}", " ")
    for record in one_of_each_command():
        assert to_markdown(part_of(record, "runs/one")) in card


def test_what_is_folded_can_be_unfolded_and_nothing_else():
    record = attack_record()
    page = undrawn_page(record)
    assert sum(name == "details" for name, _ in page.tags) == sum(
        section.folded for section in part_of(record).sections
    )
    assert not any("open" in attributes for name, attributes in page.tags if name == "details")


def test_long_names_may_break_and_numbers_may_not():
    assert str(breakable("undo + conjugate_gradient/<i>.b")) == "undo + conjugate_<wbr>gradient/&lt;i&gt;.<wbr>b"
    assert str(breakable("short_name")) == "short_name"
    assert str(prose("left 1.5e-07 <b>")) == 'left <span class="number">1.5e-07</span> &lt;b&gt;'


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme):
    css = (files("cimm_jax.views.render") / "templates" / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    )
    colours = light if scheme == "light" else dark
    assert light.keys() == dark.keys()
    for ink in ("ink", "quiet", "link", "warn"):
        for back in ("page", "surface"):
            assert _contrast(colours[ink], colours[back]) >= 4.5, (ink, back)
    for status in ("good", "warn", "bad", "neutral"):
        assert _contrast(colours[status], colours[f"{status}-back"]) >= 4.5, status


def test_pictures_have_the_contrast_of_graphics():
    for scheme in (LIGHT, DARK):
        assert _contrast(scheme.ink, scheme.paper) >= 7
        assert _contrast(scheme.quiet, scheme.paper) >= 4.5
        for colour in (*scheme.cycle, *scheme.tasks.values()):
            assert _contrast(colour, scheme.paper) >= 3, colour


def test_an_undrawn_page_differs_in_its_pictures_alone(drawn):
    with undrawn():
        plain, _ = page_and_card(*DRAWN)
    assert re.sub('"data:[^"]*"', '""', plain) == re.sub('"data:[^"]*"', '""', drawn)
