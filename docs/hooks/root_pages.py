"""MkDocs hook: the pages of the repository's root become pages of the site, their links as the site needs them."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Names in the root, and on the site."""


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages."""
    root = Path(config["config_file_path"]).parent
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=with_moved_links((root / name).read_text())))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links of pages in the folder docs to the root lead to the site's pages."""
    for name, page in PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown


def with_moved_links(text: str) -> str:
    """A page of the root whose relative links are those of the folder docs.

    >>> with_moved_links("[a](docs/theory.md), [b](CONTRIBUTING.md#rules), [c](https://docs/x.md)")
    '[a](theory.md), [b](contributing.md#rules), [c](https://docs/x.md)'
    """

    def moved(link: re.Match[str]) -> str:
        path, anchor = link[1].removeprefix("docs/"), link[2]
        return f"]({PAGES.get(path, path)}{anchor})"

    return re.sub(r"\]\((?!\w+:)([^)#]+)((?:#[^)]*)?)\)", moved, text)
