"""`cimm sweep`: every ordered pair of digits, several methods and seeds, one table and one picture."""

from pathlib import Path

import jax
import numpy as np

from cimm_jax.commands.config_file import NOT_REPEATED
from cimm_jax.commands.delivery import deliver, manifest_of
from cimm_jax.commands.settings import Sweep
from cimm_jax.data import checksums, digit_kind, load_digit_images, ordered_pairs, sweep_tasks
from cimm_jax.errors import check_count
from cimm_jax.locks import only_one_in
from cimm_jax.methods import Method, sweep
from cimm_jax.methods._sweep import Progress, abstract_progress
from cimm_jax.methods.pairs import Pairs, pairs_of
from cimm_jax.methods.run import check_batch_size, check_method, check_steps
from cimm_jax.numerics.threads import blas_threads_for
from cimm_jax.progress import progress_bar
from cimm_jax.resuming import Checkpoint
from cimm_jax.runs.codec import encode
from cimm_jax.runs.records import DigitPair, SweepRecord
from cimm_jax.tasks import SplitTask, TaskPair

__all__ = ["IRRELEVANT", "SECONDS_BETWEEN_SAVES", "run_sweep"]

SECONDS_BETWEEN_SAVES = 20.0

IRRELEVANT = (*NOT_REPEATED, "pairs_at_once")
"""Settings that do not change the results: where they go, how they are printed, how much memory they were made in."""


def run_sweep(settings: Sweep) -> None:
    """Loads, sweeps with a progress bar and checkpoints, writes and prints what was protected."""
    check_count(settings.seeds, "seeds")
    chosen = settings.build()
    for name, method in chosen.items():
        check_method(method, "methods", name)
    images = load_digit_images(settings.data, data_dir=settings.data_dir)
    tasks = sweep_tasks(images, digit_kind(settings.kind), rows=settings.rows, heldout_rows=settings.heldout_rows)
    pairs = pairs_of(tasks, ordered_pairs())
    check_steps(settings.steps)
    check_batch_size(settings.batch_size, TaskPair(tasks.train, tasks.train))
    if settings.pairs_at_once is not None:
        check_count(settings.pairs_at_once, "pairs_at_once")
    with only_one_in(settings.out) as folder:
        _sweep_in(folder, settings, chosen, tasks, pairs)


def _sweep_in(folder: Path, settings: Sweep, chosen: dict[str, Method], tasks: SplitTask, pairs: Pairs) -> None:
    numbers = ordered_pairs()
    keys = jax.random.split(jax.random.key(settings.seed), settings.seeds)
    manifest = manifest_of(settings, checksums(tasks))
    relevant = {name: value for name, value in encode(manifest)["settings"].items() if name not in IRRELEVANT}
    checkpoint = Checkpoint(
        folder / "checkpoint",
        {"settings": relevant, "versions": manifest.versions, "data_sha256": manifest.data_sha256},
        seconds_between_saves=SECONDS_BETWEEN_SAVES,
    )
    former = checkpoint.restore(lambda notes: abstract_progress(chosen, pairs, keys, notes["at_once"]))
    small = settings.hessian == "batch" and settings.batch_size is not None
    title = f"{len(numbers)} pairs x {len(chosen)} methods x {settings.seeds} seeds"
    with (
        blas_threads_for(settings.batch_size if small and settings.batch_size else tasks.train.x.shape[-1]),
        progress_bar(title, len(numbers) * settings.steps) as bar,
    ):
        bar(0 if former is None else former[0].steps_made(settings.steps))

        def report(progress: Progress) -> None:
            jax.block_until_ready(progress)
            bar(progress.steps_made(settings.steps))
            checkpoint.offer(progress, {"at_once": progress.at_once})

        measured = sweep(
            chosen,
            pairs,
            keys=keys,
            steps=settings.steps,
            batch_size=settings.batch_size,
            chunks=20,
            pairs_at_once=settings.pairs_at_once,
            progress=None if former is None else former[0],
            checkpoint=report,
        )
        jax.block_until_ready(measured)
    record = SweepRecord(
        manifest,
        data=settings.data,
        kind=settings.kind,
        steps=settings.steps,
        seeds=settings.seeds,
        pairs=tuple(DigitPair(primary, harmful) for primary, harmful in numbers),
        rows={"train": tasks.train.x.shape[1], "heldout": tasks.heldout.x.shape[1]},
        methods={name: jax.tree.map(np.asarray, found) for name, found in measured.items()},
    )
    deliver(folder, record, json=settings.json)
    checkpoint.remove()
