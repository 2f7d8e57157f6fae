"""Every table of runs as files: comma-separated values, and Markdown to paste."""

import re
from collections.abc import Sequence
from pathlib import PurePath

from cimm_jax.views.blocks import Part, Table
from cimm_jax.views.render.comma_separated import to_csv
from cimm_jax.views.render.markdown import table_to_markdown

__all__ = ["LONGEST_NAME", "table_files"]

LONGEST_NAME = 60
"""Characters of a folder's or a caption's name in that of a file."""


def table_files(parts: Sequence[Part]) -> dict[str, str]:
    """Contents by file name, such as 1-house-2-condition-numbers.csv: the runs in order, and of each run its tables.

    What is folded on a page is among them.
    """
    files = {}
    for run, part in enumerate(parts, 1):
        tables = [block for section in part.sections for block in section.blocks if isinstance(block, Table)]
        for number, table in enumerate(tables, 1):
            name = f"{run}-{_in_a_name(PurePath(part.folder).name)}-{number}-{_in_a_name(table.caption)}"
            files[f"{name}.csv"] = to_csv(table)
            files[f"{name}.md"] = table_to_markdown(table) + "\n"
    return files


def _in_a_name(text: str) -> str:
    """Text in letters that every system takes in a file name."""
    return re.sub(r"[^a-z0-9_]+", "-", text.lower())[:LONGEST_NAME].strip("-") or "x"
