"""`cimm sweep`: every ordered pair of digits, several methods and seeds, one table and one picture."""

from functools import partial
from typing import Any

import jax
import numpy as np
from rich.console import Console

from cimm_jax.cli import Sweep
from cimm_jax.commands.checkpoint import Checkpoint
from cimm_jax.commands.shared import blas_threads_for, build_methods, check_count, manifest, progress_bar, ratio_record
from cimm_jax.data import digit_kind, load_digit_images, ordered_pairs, sweep_tasks
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.methods import HessianFrom
from cimm_jax.methods._sweep import Measured, Progress, abstract_progress, sweep
from cimm_jax.methods.pairs import pairs_of
from cimm_jax.methods.run import check_batch_size, check_steps
from cimm_jax.report.heatmap import heatmap_grid
from cimm_jax.report.tables import print_table
from cimm_jax.report.words import sweep_paragraph
from cimm_jax.tasks import TaskPair


def run_sweep(command: Sweep) -> None:
    """Loads, sweeps with a progress bar and checkpoints, writes results.json and the heat maps, says what was protected."""
    if not command.methods:
        raise InputError("methods: is empty; give at least one")
    check_count(command.seeds, "seeds")
    from_batch = command.hessian == "batch"
    hessian: dict[str, Any] = {"hessian": HessianFrom.BATCH} if from_batch else {}
    chosen = build_methods(command.methods, command.learning_rate, command, **hessian)
    images = load_digit_images(command.data, data_dir=command.data_dir)
    numbers = ordered_pairs()
    tasks = sweep_tasks(images, digit_kind(command.kind), rows=command.rows, heldout_rows=command.heldout_rows)
    pairs = pairs_of(tasks, numbers)
    check_steps(command.steps)
    check_batch_size(command.batch_size, TaskPair(tasks.train, tasks.train))
    if command.pairs_at_once is not None:
        check_count(command.pairs_at_once, "pairs_at_once")
    folder = output_folder(command.out)
    keys = jax.random.split(jax.random.key(command.seed), command.seeds)
    described = manifest(command, tasks)
    checkpoint = Checkpoint(folder / "checkpoint", described)
    former = checkpoint.restore(partial(abstract_progress, chosen, pairs, keys))
    decomposed = command.batch_size if from_batch and command.batch_size else tasks.train.x.shape[-1]
    title = f"{len(numbers)} pairs x {len(chosen)} methods x {command.seeds} seeds"
    with blas_threads_for(decomposed), progress_bar(title, len(numbers) * command.steps) as bar:
        bar(0 if former is None else former.steps_made(command.steps))

        def report(progress: Progress) -> None:
            jax.block_until_ready(progress)
            bar(progress.steps_made(command.steps))
            checkpoint.save(progress, progress.at_once)

        measured = sweep(
            chosen,
            pairs,
            keys=keys,
            steps=command.steps,
            batch_size=command.batch_size,
            chunks=20,
            pairs_at_once=command.pairs_at_once,
            progress=former,
            checkpoint=report,
        )
        jax.block_until_ready(measured)
    maps = {
        part: {name: _log_rir_map(numbers, m, part) for name, m in measured.items()} for part in ("train", "heldout")
    }
    pictures = [
        write_whole(folder / f"log_rir_{part}.png", heatmap_grid(panels, colour_label=f"log RIR, {part} rows"))
        for part, panels in maps.items()
    ]
    results = {
        **described,
        "pairs": [{"primary": primary, "harmful": harmful} for primary, harmful in numbers],
        "rows": {part: getattr(tasks, part).x.shape[1] for part in maps},
        "methods": {name: _record(m) for name, m in measured.items()},
    }
    written = write_json(folder / "results.json", results)
    checkpoint.remove()
    if command.json:
        print(written.read_text(), end="")
        return
    _print(command, measured)
    print("\nPictures: " + ", ".join(str(picture) for picture in pictures))
    print(f"Figures:  {written}\n")
    Console(soft_wrap=True, highlight=False).print(sweep_paragraph(measured, len(numbers)), markup=False)


def _log_rir_map(pairs: list[tuple[int, int]], measured: Measured, part: str) -> np.ndarray:
    """Mean log RIR over seeds, shape (10, 10): row the harmful digit, column the primary one, NaN on the diagonal."""
    values = np.full((10, 10), np.nan)
    logs = np.log(np.asarray(getattr(measured, part).ratio.rir)).mean(1)
    for (primary, harmful), value in zip(pairs, logs, strict=True):
        values[harmful, primary] = value
    return values


def _record(measured: Measured) -> dict[str, Any]:
    record: dict[str, Any] = {"released_train": ratio_record(measured.released), "limit": measured.share._asdict()}
    for part in ("train", "heldout"):
        judged = getattr(measured, part)
        record[part] = {
            **ratio_record(judged.ratio),
            "loss_before": judged.loss_before,
            "loss_after": judged.loss_after,
            **judged.conditions._asdict(),
        }
    return record


def _print(command: Sweep, measured: dict[str, Measured]) -> None:
    columns = [
        "method",
        "log RIR",
        "share of the limit",
        "+- over pairs",
        "(i) harmful",
        "(ii) primary",
        "log RIR held-out",
        "immunized",
        "held-out",
        "log RIR ReleasedCode",
    ]
    rows = []
    for name, m in measured.items():
        log_rir = np.log(np.asarray(m.train.ratio.rir))
        rows.append(
            [
                name,
                float(log_rir.mean()),
                float(np.nanmean(m.share.share)),
                float(log_rir.mean(1).std()),
                _geometric_mean(m.train.ratio.harmful_ratio),
                _geometric_mean(m.train.ratio.primary_ratio),
                float(np.log(np.asarray(m.heldout.ratio.rir)).mean()),
                f"{float(m.train.conditions.immunized.mean()):.0%}",
                f"{float(m.heldout.conditions.immunized.mean()):.0%}",
                float(np.log(np.asarray(m.released.rir)).mean()),
            ]
        )
    print_table(columns, rows, title=f"{command.data}, tasks of kind {command.kind!r}, {command.steps} steps")
    print("Means over pairs and seeds (ratios: geometric), by Eq. 1 under PseudoInverse except the last column.")
    print(
        "share of the limit: log RIR over the log of the largest RIR of any linear extractor, both in the primary's range."
    )
    print("immunized: share of runs that meet Definition 3.1, (i) at least 10, (ii) at most 1.01, primary loss kept.")
    exceeded = [name for name, m in measured.items() if np.any(m.share.exceeded)]
    print(
        f"Beyond the limit: {', '.join(exceeded)}: A BUG, please report it."
        if exceeded
        else "No run is beyond the limit."
    )
    floored = {name: float(m.train.ratio.floored.mean()) for name, m in measured.items()}
    if any(floored.values()):
        shares = ", ".join(f"{name} {share:.0%}" for name, share in floored.items() if share)
        print(f"Caution: a floor or the arithmetic decided some training condition number in {shares} of the runs.")


def _geometric_mean(values: jax.Array) -> float:
    return float(np.exp(np.log(np.asarray(values)).mean()))
