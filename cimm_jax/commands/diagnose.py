"""`cimm diagnose`: can this pair be immunized at all?"""

from typing import Any

import numpy as np
from rich.console import Console

from cimm_jax.cli import Diagnose
from cimm_jax.commands.shared import manifest, parse_budget, ratio_record
from cimm_jax.data import load_pair
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.measures.diagnosis import BudgetRow, Diagnosis, Protection, diagnose
from cimm_jax.report.diagnosis import diagnosis_picture
from cimm_jax.report.tables import print_table


def run_diagnose(command: Diagnose) -> None:
    """Loads, diagnoses, writes results.json and diagnosis.png, prints what a budget buys and the verdict."""
    budgets = [parse_budget(text) for text in command.budgets]
    split = load_pair(command.data, data_dir=command.data_dir, primary=command.primary, harmful=command.harmful)
    folder = output_folder(command.out)
    console = Console(stderr=True)
    with console.status(f"decomposing {command.data}"):
        diagnosis = diagnose(
            split.train,
            heldout=split.heldout,
            budgets=budgets,
            top_k=command.top_k,
            ridge=command.ridge,
            rtol=command.rtol,
            horizon=command.horizon,
            primary_no_slower_at=command.primary_no_slower_at,
        )
    title = " ".join(filter(None, [command.data, command.primary, command.harmful]))
    picture = write_whole(folder / "diagnosis.png", diagnosis_picture(diagnosis, title=title))
    written = write_json(folder / "results.json", {**manifest(command, split), "diagnosis": _record(diagnosis)})
    if command.json:
        print(written.read_text(), end="")
        return
    _print(diagnosis, title)
    print(f"\nPicture: {picture}\nFigures: {written}")


def _record(diagnosis: Diagnosis) -> dict[str, Any]:
    record = diagnosis._asdict()
    record["limit"] = diagnosis.limit._asdict()
    record["alignment"] = diagnosis.alignment._asdict()
    record["ridge_path"] = None if diagnosis.ridge_path is None else diagnosis.ridge_path._asdict()
    record["budgets"] = [_budget_record(row) for row in diagnosis.budgets]
    for name in ("protection", "sample_only"):
        record[name] = _protection_record(getattr(diagnosis, name))
    return record


def _budget_record(row: BudgetRow) -> dict[str, Any]:
    heldout = None if row.heldout is None else ratio_record(row.heldout)
    return {**row._asdict(), "train": ratio_record(row.train), "heldout": heldout}


def _protection_record(protection: Protection | None) -> dict[str, Any] | None:
    if protection is None:
        return None
    slow_down, left = protection.front
    return {**protection._asdict(), "front": {"slow_down": slow_down, "harmful_left": left}}


def _print(diagnosis: Diagnosis, title: str) -> None:
    limit = diagnosis.limit
    facts = [
        ["log of the largest RIR", float(limit.log_rir)],
        ["mu_max / mu_min in the primary's range", float(limit.ratio_in_range)],
        ["largest kappa_H / kappa_P in the sample", float(limit.ratio)],
        ["kappa of the primary task", float(limit.kappa_primary)],
        ["kappa of the harmful task, in the primary's range", float(limit.kappa_harmful)],
        ["directions of the primary task", int(limit.rank_primary)],
        ["  of these, the harmful task lacks", diagnosis.primary_only],
        ["directions of the harmful task", diagnosis.rank_harmful],
        ["directions that only the harmful task has", diagnosis.harmful_only],
        ["harmful energy outside the primary's range", float(limit.outside)],
        [f"alignment of the top {len(diagnosis.alignment.angles)} directions", diagnosis.alignment.score],
        ["principal angles, smallest to largest, degrees", _range(diagnosis.alignment.angles)],
        ["ridge, relative to the mean eigenvalue", diagnosis.ridge],
    ]
    print_table(["", "value"], facts, title=f"{title}: what any linear extractor can reach")
    columns = ["budget", "(i) at the limit", "(ii)", "log RIR, ridge", "log RIR held-out", "harmful left", "slow-down"]
    rows = [
        [
            "keep" if row.budget == "keep" else f"{row.budget:g}",
            row.best_harmful_ratio,
            row.best_primary_ratio,
            float(np.log(row.train.rir)),
            None if row.heldout is None else float(np.log(row.heldout.rir)),
            row.harmful_left,
            row.slow_down,
        ]
        for row in diagnosis.budgets
    ]
    print_table(columns, rows, title="what a budget on the primary condition number buys")
    steps = diagnosis.watched[-1]
    print(f"harmful left: excess loss after {steps} steps of exact line search, the budget spent where the labels are;")
    print("slow-down: primary excess loss left, times undefended, at the worst of the watched steps. Training rows.")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"\nVerdict: {diagnosis.verdict}")
    for reason in diagnosis.reasons:
        console.print(f"  {reason}", markup=False)


def _range(angles: np.ndarray) -> str:
    return f"{angles[0]:.1f} to {angles[-1]:.1f}"
