"""The page as a document: valid, self-contained, escaped, readable in light and dark, the same for the same input."""

import base64
import re
from collections import Counter
from importlib.resources import files
from itertools import pairwise

import pytest
from page_samples import COMMANDS, Page, page_of, results_of

from cimm_jax.report.heatmap import _contrast

EVIL = "<script>alert(1)</script>|`&$\\frac$\n"


@pytest.fixture
def every_kind():
    return list(map(results_of, COMMANDS))


@pytest.fixture(scope="module")
def html():
    return page_of(*map(results_of, COMMANDS))[0]


def renamed(value, old, new):
    """The same with every key and text `old` replaced."""
    if isinstance(value, dict):
        return {new if key == old else key: renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, old, new) for item in value]
    return new if value == old else value


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


def test_nothing_is_fetched(html):
    page = Page(html)
    for attribute in ("src", "srcset"):
        for value in page.attributes(attribute):
            assert value.startswith("data:image/svg+xml;base64,")
    names = {name for name, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "form", "base"}
    assert not re.search(r"@import|url\(", html)
    assert any("default-src 'none'" in content for content in page.attributes("content"))


def test_pictures_are_drawn_for_light_and_dark_and_hold_no_links(html):
    page = Page(html)
    light, dark = page.attributes("src"), page.attributes("srcset")
    assert len(light) == len(dark) == 4 + 3 + 2 + 2
    for one, other in zip(light, dark, strict=True):
        drawings = [base64.b64decode(uri.split(",")[1]).decode() for uri in (one, other)]
        assert drawings[0] != drawings[1]
        for drawing in drawings:
            assert "<svg" in drawing
            assert all(link.startswith(("#", "data:image/png")) for link in re.findall(r'href="\s*([^"]*)"', drawing))
            assert not re.search(r"<(script|foreignObject)", drawing)
    ink = [base64.b64decode(uris[0].split(",")[1]).decode() for uris in (light, dark)]
    assert "#1d2329" in ink[0]
    assert "#e4e8ec" in ink[1]
    assert "#1d2329" not in ink[1], "dark ink on a dark page"


def test_names_cannot_write_html(every_kind):
    changed = [renamed(renamed(results, "pencil", EVIL), "adam", EVIL) for results in every_kind]
    plain, _ = page_of(*every_kind, drawn=False)
    html, card = page_of(*changed, folder=EVIL, drawn=False)
    page = Page(html)
    assert Counter(name for name, _ in page.tags) >= Counter(name for name, _ in Page(plain).tags)
    assert "script" not in {name for name, _ in page.tags}
    assert "<script>alert(1)</script>" in page.text
    assert "<script" not in re.sub(r"`[^`\n]*`", "", card), "outside of code"
    for line in card.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == 9, line


def test_names_cannot_break_a_picture():
    results = renamed(renamed(results_of("attack"), "pencil", EVIL), "adam", "_hidden")
    page_of(renamed(results, "pencil_no_slower", "_hidden"))


def test_same_input_same_bytes():
    first, second = (page_of(results_of("diagnose"))[0] for _ in range(2))
    assert first == second


def test_manifest_holds_command_seed_versions_and_every_checksum(every_kind, html):
    page = Page(html)
    for results in every_kind:
        for checksum in results["data_sha256"].values():
            assert checksum in page.alone
        versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
        assert versions in page.alone
    assert (
        "cimm attack --rows 20 --methods pencil pencil_no_slower --attackers line_search adam sgd newton "
        "--attack-steps 20 --rates 3 --seeds 2" in page.alone
    )
    assert "cimm immunize --no-rotate --steps 4 --resamples 20" in page.alone


def test_runs_come_in_the_order_given(every_kind):
    for order in (every_kind, every_kind[::-1]):
        titles = [text for level, text in Page(page_of(*order, drawn=False)[0]).headings if level == 2]
        expected = {
            "attack": "Attack on digits",
            "immunize": "algorithm1 on digits",
            "diagnose": "Diagnosis of digits, primary 3, harmful 5",
            "sweep": "Sweep over 90 pairs of digits",
        }
        assert titles == [*(expected[results["command"]] for results in order), "Model card fragment"]


def test_model_card_is_shown_whole_and_names_budget_breakers_and_limits(every_kind, html):
    _, card = page_of(*every_kind, drawn=False)
    shown = re.search(r"<pre[^>]*><code>(# Model immunization.*?)</code></pre>", html, re.DOTALL)
    assert shown
    assert Page(shown[0]).text == card
    for text in ("20 steps, 3 rates, 2 seeds, squared loss", "`pencil`", "tamper-proof", "newton (1)", "cimm_jax"):
        assert text in card, text
    assert len(card.splitlines()) < 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(scheme):
    css = (files("cimm_jax.report") / "templates" / "page.css").read_text()
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
