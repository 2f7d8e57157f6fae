"""Links of documents lead somewhere on a forge too, where no program follows them; what an index shows has no relative ones."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "api").glob("*.md")]
NOTEBOOKS = [*(ROOT / "docs" / "notebooks").glob("*.ipynb")]
FENCES = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def links(path):
    """Targets of a document, without those of code."""
    text = FENCES.sub("", path.read_text()).replace('\\"', '"')
    return re.findall(r"\]\(([^)\s]+)\)", text)


def slugs(path):
    """Anchors of headings, as forges and the site make them."""
    headings = re.findall(r"^#+ (.*)$", FENCES.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", [*DOCUMENTS, *NOTEBOOKS], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(path):
    for link in links(path):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.is_file(), link
        assert not anchor or anchor in slugs(target), link


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(ROOT / "docs") for path in DOCUMENTS if "docs" in path.relative_to(ROOT).parts]
    shown = [str(page) for page in pages if page.name != "pypi.md"]
    shown += [f"notebooks/{path.stem}.md" for path in NOTEBOOKS]
    assert len(shown) > 18
    assert [page for page in shown if f": {page}\n" not in navigation] == []


def test_every_room_has_a_page_of_its_docstrings():
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    rooms = {path.parent.name for path in (ROOT / "cimm_jax").glob("*/__init__.py")} - {"commands", "views"}
    assert len(rooms) == 9
    assert [room for room in rooms if f"::: cimm_jax.{room}\n" not in pages] == []


def test_an_index_of_packages_can_follow_all_links():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = links(ROOT / project["readme"])
    assert found
    assert all(link.startswith("https://") for link in [*found, *project["urls"].values()])
