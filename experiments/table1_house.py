"""Table 1 of the paper: immunization on House Prices, every method, by the released code's measure and by the definition.

Published (79 features, split by zone, first 200 rows, 100 epochs): (i) harmful up, (ii) primary down, RIR

    R_ill only  90.02  72.42    1.24        Opt kappa   1.52  0.016   92.58
    IMMA         7.05   3.55    2.00        paper      18.92  0.053  356.20

Ours, in three groups: the methods as the released code runs them (`experiments.released_code`), the same methods as this
library runs them by default (theta from the identity, Hessians of all rows, steps relative to theta), and the closed form.
Each with (i), (ii) and RIR under `ReleasedCode` and from spectral norms alone, by the definition (`PseudoInverse`), on
held-out rows, the share of the limit, and what the best attacker of a standard sweep leaves of the harmful excess loss and
by how much they are slowed. Mean (sd) over seeds.

    python -m experiments.table1_house --data-dir DIR [--seeds 3] [--out runs/table1]
    cimm reproduce table1 --data-dir DIR

A method that is finished is not run again. Run time and result: docs/results.md.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cimm_jax import methods
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.data import load_pair
from cimm_jax.files import output_folder, write_json
from cimm_jax.methods import Method
from cimm_jax.progress import phase
from cimm_jax.resuming import MadeBy
from cimm_jax.tasks import SplitPair
from cimm_jax.views.render.terminal import print_table
from experiments import released_code
from experiments.common import every_method, immunized, parser
from experiments.measure import attacked, mean_and_spread, measured
from experiments.published import TABLE_1

BATCH = 64


def main(arguments: Sequence[str] | None = None) -> Path:
    """Runs what is not finished, writes a file a method, prints the table; returns results.json."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    split = jax.tree.map(jnp.asarray, load_pair("house_prices", data_dir=settings.data_dir / "house_prices"))
    made_by = {key: getattr(settings, key) for key in ("seed", "seeds", "steps")}
    found = {}
    for name, (method, batch_size) in _rows().items():
        saved = MadeBy(folder / f"{name.replace(' ', '-')}.json", made_by)
        if (runs := saved.read()) is None:
            with phase(name):
                runs = _runs(method, batch_size, split, settings)
            saved.write(runs)
        found[name] = runs
    written = write_json(folder / "results.json", {"published": TABLE_1, "methods": found})
    _print(found)
    return written


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/table1")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--steps", type=int, default=300, help="optimizer steps: 100 epochs of 3 batches")
    return made.parse_args(arguments)


def _rows() -> dict[str, tuple[Method, int | None]]:
    """Methods of the table with their batch sizes."""
    house = released_code.HOUSE
    released = {name: getattr(released_code, name)(house) for name in ("ill_only", "opt_kappa", "algorithm1")}
    ours = every_method()
    return {
        **{f"{name} as released": (method, BATCH) for name, method in released.items()},
        **{name: (method, None) for name, method in ours.items()},
        "pencil budget 1": (methods.pencil(budget=1.0), None),
    }


def _runs(
    method: Method, batch_size: int | None, split: SplitPair, settings: argparse.Namespace
) -> list[dict[str, Any]]:
    thetas = {UNDEFENDED: jnp.eye(split.train.primary.x.shape[1])}
    for seed in range(settings.seed, settings.seed + settings.seeds):
        thetas[str(seed)] = immunized(method, split.train, seed=seed, steps=settings.steps, batch_size=batch_size)
    hit = attacked(thetas, split)
    return [
        {**{key: float(value) for key, value in measured(theta, split).items()}, **hit[seed]}
        for seed, theta in thetas.items()
        if seed != UNDEFENDED
    ]


def _print(found: dict[str, list[dict[str, Any]]]) -> None:
    columns = [
        "method",
        "published (i)",
        "(ii)",
        "RIR",
        "ReleasedCode (i)",
        "(ii)",
        "RIR",
        "by norms",
        "PseudoInverse (i)",
        "(ii)",
        "RIR",
    ]
    columns += ["held-out RIR", "share of the limit", "harmful left", "slowed"]
    keys = (
        "released_harmful",
        "released_primary",
        "released_rir",
        "norms_rir",
        "harmful",
        "primary",
        "rir",
        "heldout_rir",
        "share",
        "left",
    )
    rows = []
    for name, runs in found.items():
        shown = [mean_and_spread([run[key] for run in runs]) for key in keys]
        slowed = mean_and_spread([run["slow_down"] for run in runs]) + "x"
        rows.append([name, *TABLE_1.get(name.removesuffix(" as released"), ("", "", "")), *shown, slowed])
    print_table(columns, rows, title="House Prices, 200 training rows, mean (sd) over seeds")
    print(
        "harmful left: excess loss after 1,000 steps of the best of line search, momentum, Nesterov, Adam, Muon; 7 rates."
    )


if __name__ == "__main__":
    main()
