"""Is there a setting in which Algorithm 1 is truly better, by the definition? A search with a stated budget.

On House Prices: 4 optimizers x 2 Hessians (all rows; the batch of 64) x 5 learning rates x 4 x 4 factors on the lambdas that
balance the gradients = 640 runs of 300 steps with one seed. A setting is judged by log RIR (`PseudoInverse`) on the rows it
was trained on, among those that do not make the primary task harder ((ii) at most 1). The default settings and the ten best
are then run again with three other seeds, for as long and for ten times as long, held-out rows and attackers included; at
last the best of them meets data that it was not chosen on, two pairs of MNIST digits (640 images each, 300 steps).

    python -m experiments.search_algorithm1 --data-dir DIR [--out runs/search]

Every run is saved as it is finished, and the same command continues. Run time and result: docs/results.md.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from cimm_jax import methods
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.data import SingleDigit, load_digit_images, load_pair, split_pair
from cimm_jax.files import output_folder, write_json
from cimm_jax.methods import HessianFrom, Method
from cimm_jax.methods.stepping import advance, start
from cimm_jax.tasks import SplitPair, TaskPair
from cimm_jax.views.render.terminal import print_table
from experiments.common import parser
from experiments.measure import QUICK_ATTACKERS, attacked, mean_and_spread, measured
from experiments.resumed import resumed

OPTIMIZERS: dict[str, tuple[Callable[..., optax.GradientTransformation], tuple[float, ...]]] = {
    "lars": (partial(optax.lars, trust_coefficient=1.0, momentum=0.9), (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    "lars without momentum": (partial(optax.lars, trust_coefficient=1.0, momentum=0.0), (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
    "adam": (optax.adam, (1e-5, 1e-4, 1e-3, 5e-3, 2e-2)),
    "muon": (optax.contrib.muon, (1e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
}
HESSIANS = {"all rows": HessianFrom.DATA, "batch": HessianFrom.BATCH}
FACTORS = (0.1, 1.0, 10.0, 100.0)
STEPS, BATCH, FINALISTS = 300, 64, 10
DEFAULT = {"optimizer": "lars", "hessian": "all rows", "rate": 3e-3, "primary_factor": 1.0, "harmful_factor": 1.0}
MNIST_PAIRS = ((0, 1), (4, 9))
MNIST_ROWS, MNIST_STEPS = 640, 300


def main(arguments: Sequence[str] | None = None) -> None:
    """Searches, runs the best again, prints both tables and the check on other data."""
    settings = _settings(arguments)
    jax.config.update("jax_enable_x64", True)
    folder = output_folder(settings.out)
    house = jax.tree.map(jnp.asarray, load_pair("house_prices", data_dir=settings.data_dir / "house_prices"))
    searched = _search(house, folder, settings)
    best = [DEFAULT, *(setting for setting in _best(searched) if setting != DEFAULT)]
    again = _again(house, best, folder, settings)
    winner = _winner([record for record in again if record["steps"] == settings.steps])
    images = load_digit_images("mnist", data_dir=settings.data_dir / "mnist")
    elsewhere = _elsewhere(images, [DEFAULT, *([winner] if winner != DEFAULT else [])], folder, settings)
    write_json(folder / "results.json", {"searched": searched, "again": again, "elsewhere": elsewhere})
    _print(searched, again, elsewhere)


def _settings(arguments: Sequence[str] | None) -> argparse.Namespace:
    made = parser(__doc__, "runs/search")
    made.add_argument("--at-once", type=int, default=2, help="runs made at the same time")
    made.add_argument(
        "--steps", type=int, default=STEPS, help="of the search; the second stage also makes ten times as many"
    )
    return made.parse_args(arguments)


def _grid() -> list[dict[str, Any]]:
    return [
        {"optimizer": optimizer, "hessian": hessian, "rate": rate, "primary_factor": primary, "harmful_factor": harmful}
        for optimizer, (_, rates) in OPTIMIZERS.items()
        for hessian in HESSIANS
        for rate in rates
        for primary in FACTORS
        for harmful in FACTORS
    ]


def _search(house: SplitPair, folder: Path, settings: argparse.Namespace) -> list[dict[str, Any]]:
    def run(**setting) -> dict[str, Any]:
        return _figures(_theta(house.train, setting, settings.seed, settings.steps), house)

    made_by = {"steps": settings.steps, "seed": settings.seed}
    return resumed(folder / "search.json", _grid(), run, made_by=made_by, at_once=settings.at_once)


def _again(
    house: SplitPair, chosen: Sequence[dict[str, Any]], folder: Path, settings: argparse.Namespace
) -> list[dict[str, Any]]:
    def run(*, seed: int, steps: int, **setting) -> dict[str, Any]:
        theta = _theta(house.train, setting, seed, steps)
        found = _figures(theta, house)
        if found["finite"]:
            found |= attacked({UNDEFENDED: jnp.eye(len(theta)), "immunized": theta}, house)["immunized"]
        return found

    seeds = range(settings.seed + 1, settings.seed + 4)
    lengths = (settings.steps, 10 * settings.steps)
    wanted = [{**setting, "steps": steps, "seed": seed} for setting in chosen for steps in lengths for seed in seeds]
    return resumed(folder / "again.json", wanted, run, made_by={}, at_once=settings.at_once)


def _elsewhere(
    images, chosen: Sequence[dict[str, Any]], folder: Path, settings: argparse.Namespace
) -> list[dict[str, Any]]:
    def run(*, primary_digit: int, harmful_digit: int, **setting) -> dict[str, Any]:
        split = split_pair(images, SingleDigit(primary_digit), SingleDigit(harmful_digit), MNIST_ROWS, MNIST_ROWS)
        split = jax.tree.map(jnp.asarray, split)
        theta = _theta(split.train, setting, settings.seed, MNIST_STEPS)
        found = _figures(theta, split)
        if found["finite"]:
            thetas = {UNDEFENDED: jnp.eye(len(theta)), "immunized": theta}
            found |= attacked(thetas, split, attackers=QUICK_ATTACKERS)["immunized"]
        return found

    wanted = [{**setting, "primary_digit": p, "harmful_digit": h} for setting in chosen for p, h in MNIST_PAIRS]
    return resumed(folder / "mnist.json", wanted, run, made_by={"seed": settings.seed}, at_once=settings.at_once)


def _method(optimizer: str, hessian: str) -> Method:
    """Algorithm 1 with a learning rate that is part of its state, so that one program serves all rates and lambdas."""
    made, _ = OPTIMIZERS[optimizer]
    return methods.algorithm1(optimizer=optax.inject_hyperparams(made)(learning_rate=1.0), hessian=HESSIANS[hessian])


_METHODS = {(optimizer, hessian): _method(optimizer, hessian) for optimizer in OPTIMIZERS for hessian in HESSIANS}


def _theta(pair: TaskPair, setting: dict[str, Any], seed: int, steps: int) -> jax.Array:
    factors = jnp.asarray([setting["primary_factor"], setting["harmful_factor"]])
    method = _METHODS[setting["optimizer"], setting["hessian"]]
    batch_size = BATCH if setting["hessian"] == "batch" else None
    return _train(method, jax.random.key(seed), pair, factors, jnp.asarray(setting["rate"]), steps, batch_size)


@partial(jax.jit, static_argnums=(0, 6))
def _train(
    method: Method,
    key: jax.Array,
    pair: TaskPair,
    factors: jax.Array,
    rate: jax.Array,
    steps: int | jax.Array,
    batch_size: int | None,
) -> jax.Array:
    run = start(method, key, pair)
    optimizer = run.state.optimizer
    optimizer = optimizer._replace(hyperparams={**optimizer.hyperparams, "learning_rate": rate})
    state = run.state._replace(weights=run.state.weights * factors, optimizer=optimizer)
    run, _ = advance(method, run._replace(state=state), pair, steps=steps, batch_size=batch_size)
    return method.extractor(run.state)


def _figures(theta: jax.Array, split: SplitPair) -> dict[str, Any]:
    if not bool(jnp.isfinite(theta).all()):
        return {"finite": False}
    return {"finite": True, **{key: float(value) for key, value in measured(theta, split).items()}}


def _score(record: dict[str, Any]) -> float:
    """Log RIR; minus infinity where the primary task became harder, or theta left the range of numbers."""
    usable = record["finite"] and record["primary"] <= 1 and np.isfinite(record["rir"])
    return float(np.log(record["rir"])) if usable else -np.inf


def _setting(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in DEFAULT}


def _best(searched: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [_setting(record) for record in sorted(searched, key=_score, reverse=True)[:FINALISTS]]


def _winner(again: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The setting with the best mean score over its seeds."""
    scores: dict[str, list[float]] = {}
    for record in again:
        scores.setdefault(json.dumps(_setting(record)), []).append(_score(record))
    return json.loads(max(scores, key=lambda setting: np.mean(scores[setting])))


def _print(
    searched: Sequence[dict[str, Any]], again: Sequence[dict[str, Any]], elsewhere: Sequence[dict[str, Any]]
) -> None:
    rows = []
    for optimizer in OPTIMIZERS:
        for hessian in HESSIANS:
            here = [record for record in searched if (record["optimizer"], record["hessian"]) == (optimizer, hessian)]
            best = max(here, key=_score)
            usable = sum(np.isfinite(_score(record)) for record in here)
            rows.append([optimizer, hessian, len(here), usable, *_columns([best]), *_numbers(best)])
    columns = ["optimizer", "Hessians", "runs", "primary no harder", *FIGURES, "rate", "lambda_P x", "lambda_H x"]
    print_table(columns, rows, title="The best setting of each kind, House Prices, one seed")
    rows = []
    for setting in {json.dumps(_setting(record)): None for record in again}:
        for steps in dict.fromkeys(record["steps"] for record in again):
            runs = [r for r in again if json.dumps(_setting(r)) == setting and r["steps"] == steps]
            rows.append(
                [runs[0]["optimizer"], runs[0]["hessian"], *_numbers(runs[0]), steps, *_columns(runs), *_hit(runs)]
            )
    columns = ["optimizer", "Hessians", "rate", "lambda_P x", "lambda_H x", "steps", *FIGURES, "harmful left", "slowed"]
    print_table(columns, rows, title="The default (first) and the best, three other seeds, mean (sd)")
    columns = ["pair", *columns[:5], *FIGURES, "harmful left", "slowed"]
    rows = [
        [
            f"{record['primary_digit']}, {record['harmful_digit']}",
            record["optimizer"],
            record["hessian"],
            *_numbers(record),
            *_columns([record]),
            *_hit([record]),
        ]
        for record in elsewhere
    ]
    print_table(
        columns, rows, title=f"The default and the winner on MNIST, {MNIST_ROWS} images a digit, {MNIST_STEPS} steps"
    )


FIGURES = {
    "(i)": "harmful",
    "(ii)": "primary",
    "RIR": "rir",
    "share of the limit": "share",
    "held-out RIR": "heldout_rir",
    "RIR ReleasedCode": "released_rir",
}
"""Columns and what they show of a record."""


def _numbers(record: dict[str, Any]) -> list[float]:
    return [record["rate"], record["primary_factor"], record["harmful_factor"]]


def _columns(runs: Sequence[dict[str, Any]]) -> list[str]:
    finite = [run for run in runs if run["finite"]]
    return [mean_and_spread([run[key] for run in finite]) if finite else "-" for key in FIGURES.values()]


def _hit(runs: Sequence[dict[str, Any]]) -> list[str]:
    return [mean_and_spread([run[key] for run in runs if run["finite"]]) for key in ("left", "slow_down")]


if __name__ == "__main__":
    main()
