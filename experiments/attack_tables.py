"""Who breaks what: every method against every attacker, on House Prices and on six pairs of MNIST tasks.

Each pair is attacked as `cimm attack` does: all of its attackers, nine learning rates, five seeds. What is printed here is one
line an extractor: what the best attacker who follows gradients leaves of the excess harmful loss after 1,000 steps, how much
they are slowed, how many of all attackers break it, and what the primary task pays. The undefended extractor is attacked with
the same sweep. House Prices is immunized with the Hessians of all rows, MNIST with those of minibatches of 64.

    python -m experiments.attack_tables --data-dir DIR [--rows 300] [--out runs/attack_tables]

A pair that is finished is not run again, and `cimm report` shows its folder. Run time and result: docs/results.md.
"""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

import jax

from cimm_jax import attacks, methods
from cimm_jax.attacks import UNDEFENDED, claims, prices
from cimm_jax.files import output_folder
from cimm_jax.methods import HessianFrom
from cimm_jax.runs.attacking import attack
from cimm_jax.runs.immunizing import make_map
from cimm_jax.runs.manifest import make_manifest
from cimm_jax.runs.records import AttackRecord
from cimm_jax.runs.run_folder import command_of, read_record_of, write_record
from cimm_jax.runs.source import DataSource
from cimm_jax.runs.subject import DataSubject
from cimm_jax.views.attack_words import slowed_text
from cimm_jax.views.numbers import times
from cimm_jax.views.render.terminal import print_table
from experiments.common import parser

MNIST_PAIRS = (("0v1", "2v3"), ("4v9", "2v3"), ("2v3", "4v9"), ("3v8", "5v6"), ("1v7", "0v6"), ("6v8", "4v7"))
"""Primary and harmful tasks: the usual pair, easy and hard ones (4v9, 3v8), both ways round for one."""

BATCH, STEPS, SEEDS = 64, 300, 5
"""Rows of a minibatch, optimizer steps of the methods that are no closed forms, seeds of the attackers who use randomness."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is not finished yet, then prints one table a pair."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder, root = output_folder(settings.out), settings.data_dir
    found = {"House Prices": _attacked(DataSource("house_prices", root / "house_prices"), folder / "house", settings)}
    for primary, harmful in MNIST_PAIRS[: settings.pairs]:
        source = DataSource("mnist", root / "mnist", primary, harmful, rows=settings.rows)
        record = _attacked(source, folder / f"mnist-{primary}-{harmful}", settings, batch_size=BATCH)
        found[f"MNIST, primary {primary}, harmful {harmful}"] = record
    for name, record in found.items():
        _print(name, record)


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/attack_tables")
    made.add_argument("--rows", type=int, default=300, help="images a side of each MNIST task")
    made.add_argument("--pairs", type=int, default=len(MNIST_PAIRS), help="how many of the MNIST pairs")
    return made.parse_args(arguments)


def _attacked(
    source: DataSource, folder: Path, settings: argparse.Namespace, *, batch_size: int | None = None
) -> AttackRecord:
    """Every attacker against every method on a pair; from the folder if the same things made it."""
    subject = DataSubject(source)
    rows_of_hessian = HessianFrom.DATA if batch_size is None else HessianFrom.BATCH
    made_by = {name: value for name, value in vars(source).items() if name != "data_dir"}
    made_by |= {"batch_size": batch_size, "hessian": rows_of_hessian.name.lower(), "immunization_steps": STEPS}
    made_by |= {"seed": settings.seed, "seeds": SEEDS}
    words = ["python", "-m", "experiments.attack_tables", "--data-dir", str(settings.data_dir)]
    words += ["--rows", str(settings.rows), "--seed", str(settings.seed)]
    manifest = make_manifest("attack", made_by, command_line=shlex.join(words), data_sha256=subject.checksums())
    if command_of(folder) is not None:
        former = read_record_of(folder, AttackRecord)
        if all(getattr(former.manifest, of) == getattr(manifest, of) for of in ("settings", "data_sha256")):
            return former
    built = methods.build_methods((*methods.BY_NAME, *methods.PRESETS), {}, {"hessian": rows_of_hessian})
    defences = [
        make_map(
            subject,
            method,
            name=name,
            seed=settings.seed,
            steps=STEPS,
            batch_size=batch_size,
            with_history=False,
        )[0]
        for name, method in built.items()
    ]
    operators = attacks.standard_operators()
    record, unfinished = attack(manifest, subject, defences, operators, seeds=SEEDS, seed=settings.seed)
    if unfinished:
        raise SystemExit(f"{folder}: {unfinished}; the same command begins with this pair again")
    write_record(output_folder(folder), record)
    return record


def _print(name: str, record: AttackRecord) -> None:
    harmful = record.tasks["harmful"]
    primary = {price.extractor: price for price in prices(record.tasks) if price.task == "primary"}
    rows = [
        [
            claim.extractor,
            claim.left,
            claim.undefended_left,
            claim.heldout_left,
            claim.undefended_heldout_left,
            slowed_text(claim.by_loss),
            sum(breach.by_loss for breach in claim.broken_by),
            sum(breach.by_loss for breach in claim.followers),
            primary[claim.extractor].line_search,
            primary[UNDEFENDED].line_search,
            "never" if (slowed := primary[claim.extractor].slow_down) is None else times(slowed),
        ]
        for claim in claims(harmful, record.records)
    ]
    columns = [
        "extractor",
        "harmful left",
        "undefended",
        "held-out",
        "undefended",
        "slowed",
        f"broken by, of {len(harmful[UNDEFENDED])}",
        "gradient followers",
        "primary left, line search",
        "undefended",
        "primary slowed",
    ]
    print_table(columns, rows, title=name)


if __name__ == "__main__":
    main()
