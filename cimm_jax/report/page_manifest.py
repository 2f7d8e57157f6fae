"""How a run was made: what everyone needs who wants the same figures."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cimm_jax.report.page_blocks import Code, Facts, Section


def manifest_sections(results: Mapping[str, Any], command_line: str) -> list[Section]:
    """The command with seeds and versions, then settings and checksums to unfold."""
    settings, versions = results["settings"], results["versions"]
    seeds = settings.get("seeds")
    facts = [
        ("seed", settings["seed"]),
        *([("seeds", f"{seeds}, split from it")] if seeds else []),
        *_rows(results),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    sections = [Section("Manifest", [Code(command_line), Facts(facts)])]
    checksums = list(results["data_sha256"].items())
    if checksums:
        sections.append(Section("SHA-256 of the data", [Facts(checksums, code=True)], folded=True))
    sections.append(Section("All settings", [Facts([(k, _text(v)) for k, v in settings.items()])], folded=True))
    return sections


def _rows(results: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    def words(value: Any) -> str:
        if not isinstance(value, Mapping):
            return str(value)
        return ", ".join(f"{key} {words(item)}" for key, item in value.items())

    if "rows" not in results:
        return []
    return [(f"rows, {key}", words(value)) for key, value in results["rows"].items()]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
