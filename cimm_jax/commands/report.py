"""`cimm report`: finished runs as one page that anyone can open, with a model card."""

from collections.abc import Sequence
from pathlib import Path

import cimm_jax
from cimm_jax.commands.config_file import write_config
from cimm_jax.commands.delivery import manifest_of
from cimm_jax.commands.settings import Report
from cimm_jax.errors import InputError, printable
from cimm_jax.files import output_folder, write_whole
from cimm_jax.locks import only_one_in
from cimm_jax.runs.records import ReportRecord, ShownRun
from cimm_jax.runs.run_folder import RESULTS_FILE, command_of, read_record, write_record
from cimm_jax.verbosity import Level, level
from cimm_jax.views.blocks import Part
from cimm_jax.views.card import model_card
from cimm_jax.views.registry import claims_of, part_of, refusing_contradictions
from cimm_jax.views.render.html import to_html
from cimm_jax.views.render.table_folder import table_files
from cimm_jax.views.summary import summarise

__all__ = ["run_report"]


def run_report(settings: Report) -> None:
    """Reads runs, writes report.html, model-card.md, results.json and, if asked, tables; nothing is computed again."""
    if not settings.runs:
        raise InputError("runs: none given; give --out folders of finished runs, as in: cimm report runs/latest")
    records = [read_record(folder) for folder in settings.runs]
    existing = settings.out / RESULTS_FILE
    if existing.is_file() and command_of(settings.out) != "report":
        raise InputError(
            f"--out: {existing} is not of an earlier report, and would be overwritten; choose another folder"
        )
    parts, claims = [], []
    for record, folder in zip(records, settings.runs, strict=True):
        with refusing_contradictions(str(folder)):
            parts.append(part_of(record, str(folder)))
            claims.append(tuple(claims_of(record)))
    with refusing_contradictions(" and ".join(map(str, settings.runs))):
        together = summarise(records)
        card = model_card(records, together, parts)
        page = to_html(together, parts, card, cimm_jax.__version__)
    if settings.tables is not None:
        output_folder(settings.tables, "--tables")
    with only_one_in(settings.out) as folder:
        files = {
            "page": str(write_whole(folder / "report.html", page)),
            "model_card": str(write_whole(folder / "model-card.md", card)),
        }
        if settings.tables is not None:
            files["tables"] = str(_write_tables(settings.tables, parts))
        runs = tuple(
            ShownRun(part.folder, record.manifest, part.headline, said)
            for record, part, said in zip(records, parts, claims, strict=True)
        )
        record = ReportRecord(manifest_of(settings), together.headline, files, runs)
        write_config(folder, record.manifest)
        written = write_record(folder, record)
    if settings.json:
        print(written.read_text(), end="")
        return
    if level() is Level.QUIET:
        return
    print(printable(together.headline))
    for part in parts:
        print(printable(f"{part.title} ({part.folder}): {part.headline}"))
    print(f"\nPage: {files['page']}\nModel card: {files['model_card']}\nFigures: {written}")
    if settings.tables is not None:
        print(f"Tables: {files['tables']}")


def _write_tables(folder: Path, parts: Sequence[Part]) -> Path:
    """Writes every table in both forms; raises `UnwritableError` as `write_whole`."""
    for name, content in table_files(parts).items():
        write_whole(folder / name, content, "--tables")
    return folder
