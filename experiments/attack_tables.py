"""Who breaks what: every method against every attacker, on House Prices and on six pairs of MNIST tasks.

For each pair `cimm attack` is run with all of its attackers, nine learning rates and five seeds. What is printed here is one
line an extractor: what the best attacker who follows gradients leaves of the excess harmful loss after 1,000 steps, how much he
is slowed, how many of all attackers break it, and what the primary task pays. The undefended extractor is attacked with the
same sweep. House Prices is immunized with the Hessians of all rows, MNIST with those of minibatches of 64.

    python -m experiments.attack_tables --data-dir DIR [--rows 300] [--out runs/attack_tables]

A pair that is finished is not run again. Run time and result: docs/results.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cimm_jax import cli
from cimm_jax.commands.runs import read_results
from cimm_jax.files import output_folder
from cimm_jax.report.attack_facts import attackers, claims, prices
from cimm_jax.report.attack_words import slow_down_text, times
from cimm_jax.report.tables import print_table
from experiments.common import parser

MNIST_PAIRS = (("0v1", "2v3"), ("4v9", "2v3"), ("2v3", "4v9"), ("3v8", "5v6"), ("1v7", "0v6"), ("6v8", "4v7"))
"""Primary and harmful tasks: the usual pair, easy and hard ones (4v9, 3v8), both ways round for one."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is not finished yet, then prints one table a pair."""
    settings = _settings(arguments)
    folder = output_folder(settings.out)
    runs = {"House Prices": folder / "house"}
    mnist = ["--data", "mnist", "--data-dir", str(settings.data_dir / "mnist"), "--rows", str(settings.rows)]
    _attack(["--data", "house_prices", "--data-dir", str(settings.data_dir / "house_prices")], runs["House Prices"])
    for primary, harmful in MNIST_PAIRS[: settings.pairs]:
        name = f"MNIST, primary {primary}, harmful {harmful}"
        runs[name] = folder / f"mnist-{primary}-{harmful}"
        _attack([*mnist, "--primary", primary, "--harmful", harmful, "--batch-size", "64"], runs[name])
    for name, run in runs.items():
        _print(name, read_results(run))


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/attack_tables")
    made.add_argument("--rows", type=int, default=300, help="images a side of each MNIST task")
    made.add_argument("--pairs", type=int, default=len(MNIST_PAIRS), help="how many of the MNIST pairs")
    return made.parse_args(arguments)


def _attack(data: list[str], folder: Path) -> None:
    if (folder / "results.json").exists():
        return
    if cli.main(["attack", *data, "--out", str(folder)]):
        raise SystemExit(f"the attack for {folder} did not finish")


def _print(name: str, results: dict[str, Any]) -> None:
    primary = {price.extractor: price for price in prices(results) if price.task == "primary"}
    rows = [
        [
            claim.extractor,
            claim.left,
            claim.undefended_left,
            claim.heldout_left,
            claim.undefended_heldout_left,
            slow_down_text(claim),
            len(claim.broken_by),
            sum(not breach.adaptive for breach in claim.broken_by),
            primary[claim.extractor].line_search,
            primary["undefended"].line_search,
            "never" if (slowed := primary[claim.extractor].slow_down) is None else times(slowed),
        ]
        for claim in claims(results)
    ]
    columns = [
        "extractor",
        "harmful left",
        "undefended",
        "held-out",
        "undefended",
        "slowed",
        f"broken by, of {len(attackers(results))}",
        "gradient followers",
        "primary left, line search",
        "undefended",
        "primary slowed",
    ]
    print_table(columns, rows, title=name)


if __name__ == "__main__":
    main()
