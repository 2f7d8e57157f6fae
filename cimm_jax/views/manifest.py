"""How a run was made: what everyone needs who wants the same figures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cimm_jax.data import TaskNames
from cimm_jax.runs.records import Manifest, typed
from cimm_jax.runs.source import Source
from cimm_jax.views.blocks import Code, Facts, Section

__all__ = ["manifest_sections", "task_facts"]


def manifest_sections(manifest: Manifest, rows: Mapping[str, Mapping[str, int]] | None = None) -> list[Section]:
    """The command with its seed, rows and versions, then settings and checksums; all to unfold."""
    seeds = manifest.settings.get("seeds")
    facts: list[tuple[str, object]] = [("command", typed(manifest.command))]
    facts += [("seed", manifest.settings["seed"])] if "seed" in manifest.settings else []
    facts += [("seeds", f"{seeds}, split from it")] if seeds else []
    facts += [
        (f"rows, {key}", ", ".join(f"{of} {n}" for of, n in counts.items())) for key, counts in (rows or {}).items()
    ]
    facts.append(("versions", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())))
    facts.append(("layout of results.json", manifest.schema))
    sections = [Section("Manifest", [Code(manifest.command_line), Facts(facts)], folded=True)]
    if manifest.data_sha256:
        sections.append(
            Section("SHA-256 of the data", [Facts(list(manifest.data_sha256.items()), code=True)], folded=True)
        )
    settings = [(name, _text(value)) for name, value in manifest.settings.items()]
    return [*sections, Section("All settings", [Facts(settings)], folded=True)]


def task_facts(names: TaskNames, source: Source) -> list[tuple[str, object]]:
    """What is kept and what is blocked, by name, and where it comes from."""
    facts: list[tuple[str, object]] = [("kept", names.primary), ("blocked", names.harmful)]
    facts += [("benign third task", names.benign)] if names.benign else []
    given = {name: value for name, value in vars(source).items() if value not in (None, (), False)}
    return [*facts, ("from", ", ".join(f"{name.replace('_', ' ')} {_text(value)}" for name, value in given.items()))]


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value, default=str)
