"""`cimm report`: finished runs as one page that anyone can open, with a model card."""

import dataclasses
import json
import shlex
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cimm_jax import cli
from cimm_jax.commands.runs import read_results
from cimm_jax.commands.shared import manifest
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.report.attack_facts import claims
from cimm_jax.report.page import PARTS, Run, card_of, part_of, render
from cimm_jax.report.page_blocks import Part
from cimm_jax.report.page_immunize import slow_downs

COMMANDS = {"attack": cli.Attack, "diagnose": cli.Diagnose, "immunize": cli.Immunize, "sweep": cli.Sweep}


def run_report(command: cli.Report) -> None:
    """Reads runs, writes report.html, model-card.md and results.json; nothing is computed again."""
    if not command.runs:
        raise InputError("runs: none given; give --out folders of finished runs, as in: cimm report runs/latest")
    runs = [_read(folder) for folder in command.runs]
    _check_out(command.out)
    shown = [_shown(run) for run in runs]
    parts = [part for part, _ in shown]
    card = card_of(runs, parts)
    page = render(parts, card, version("cimm_jax"))
    folder = output_folder(command.out)
    files = {
        "page": write_whole(folder / "report.html", page),
        "model_card": write_whole(folder / "model-card.md", card),
    }
    results = {
        **manifest(command),
        "files": {name: str(path) for name, path in files.items()},
        "runs": [_record(run, part, claimed) for run, (part, claimed) in zip(runs, shown, strict=True)],
    }
    written = write_json(folder / "results.json", results)
    if command.json:
        print(written.read_text(), end="")
        return
    for part in parts:
        print(f"{part.title} ({part.folder}): {part.headline}")
    print(f"\nPage: {files['page']}\nModel card: {files['model_card']}\nFigures: {written}")


def command_line(results: Mapping[str, Any]) -> str:
    """The command that makes a run again: its settings where they are not the default, but for where it writes."""
    known = {field.name: field for field in dataclasses.fields(COMMANDS[results["command"]])}
    words = ["cimm", results["command"]]
    options = []
    for name, value in results["settings"].items():
        if name in ("out", "json") or name not in known or value == _plain(known[name].default):
            continue
        values = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        if name == "runs":
            words += values
        elif isinstance(value, bool):
            options.append(f"--{'' if value else 'no-'}{_dashed(name)}")
        else:
            options += [f"--{_dashed(name)}", *values]
    return shlex.join([*words, *options])


def _read(folder: Path) -> Run:
    results = read_results(folder)
    if results["command"] not in PARTS:
        raise InputError(
            f"runs: {folder} was written by cimm {results['command']}, which has nothing to show; give folders of "
            f"{', '.join(PARTS)}"
        )
    return Run(str(folder), results, "")


def _shown(run: Run) -> tuple[Part, Any]:
    """What is shown and claimed of a run; results that lack something are bad input, not a defect here."""
    try:
        complete = run._replace(command_line=command_line(run.results))
        return part_of(complete), _claims(run.results)
    except (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise InputError(
            f"runs: {run.folder} cannot be shown, its results.json is damaged or incomplete "
            f"({type(error).__name__}: {error}); make the run again"
        ) from error


def _check_out(out: Path) -> None:
    """Refuses a folder that holds the results of anything else."""
    existing = out / "results.json"
    if not existing.is_file():
        return
    try:
        kind = json.loads(existing.read_text())["command"]
    except (OSError, ValueError, KeyError, TypeError):
        kind = None
    if kind != "report":
        raise InputError(
            f"--out: {existing} is not of an earlier report, and would be overwritten; choose another folder"
        )


def _claims(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is claimed, as data: attackers against extractors, or exact line search against one."""
    if results["command"] == "attack":
        return [
            {**claim._asdict(), "broken_by": [breach._asdict() for breach in claim.broken_by]}
            for claim in claims(results)
        ]
    return [one._asdict() for one in slow_downs(results)] if results["command"] == "immunize" else []


def _record(run: Run, part: Part, claimed: Any) -> dict[str, Any]:
    kept = {key: run.results[key] for key in ("command", "settings", "versions", "data_sha256")}
    return {"folder": run.folder, "headline": part.headline, "claims": claimed, **kept}


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _dashed(name: str) -> str:
    return name.replace("_", "-")
