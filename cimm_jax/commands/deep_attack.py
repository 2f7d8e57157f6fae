"""`cimm attack` on runs of `cimm immunize --model`: linear probes of the harmful classes on the immunized features."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cimm_jax.cli import Attack, Immunize
from cimm_jax.commands.attack_shared import check_left_out, deliver, operators_of, sweep_records
from cimm_jax.commands.battlefield import DECIDED_BY_RUNS
from cimm_jax.commands.deep_features import DEEP_SETTINGS, DeepData, is_deep, read_deep_inputs
from cimm_jax.commands.defences import ImmunizedRun, read_runs
from cimm_jax.commands.runs import read_results
from cimm_jax.commands.shared import blas_threads_for, check_count, manifest, progress_bar
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder
from cimm_jax.report.attack_facts import UNDEFENDED
from cimm_jax.report.tables import print_table
from cimm_jax.training.feature_attack import DEEP, attack_features

HELDOUT = (
    "held-out: share of images nobody fitted that are classified wrongly, over that of guessing. The primary task pays "
    "nothing: the published head absorbs the map (primary_kept in the run's results.json)."
)


def are_deep(folders: tuple[Path, ...]) -> bool:
    """Whether any of the folders is of a network."""
    return any(is_deep(read_results(folder)["settings"]) for folder in folders)


def run_deep_attack(command: Attack) -> None:
    """Reads runs and features, attacks, writes results.json and attack.png, prints what broke which map first.

    Raises:
      KeyboardInterrupt: after everything that had been finished was written and printed.
    """
    check_count(command.seeds, "seeds")
    operators = operators_of(command, _standard(command.loss))
    runs = read_runs(command.runs)
    data = _data(command, runs)
    folder = output_folder(command.out)
    features = data.head.kernel.shape[0]
    thetas = {UNDEFENDED: np.eye(features), **{run.name: run.theta for run in runs}}
    keys = jax.random.split(jax.random.key(command.seed), command.seeds)
    with (
        blas_threads_for(features),
        progress_bar("attacking the harmful task", len(operators)) as progress,
    ):
        swept = attack_features(data.features.harmful, thetas, operators, keys=keys, progress=progress)
    results: dict[str, Any] = {
        **manifest(command),
        "data": {"data": runs[0].settings["model"], **{t: runs[0].settings[t] for t in ("primary", "harmful")}},
        "deep": data.described,
        "rows": {"harmful": {part: described["images"] for part, described in data.described["harmful"].items()}},
        "classes": True,
        "extractors": {run.name: _measured(run) for run in runs},
        **sweep_records(command, operators, {"harmful": swept}, list(thetas)),
    }
    deliver(command, folder, results, complete=len(swept) == len(operators), print_more=_print_accuracy)


def _standard(loss: str) -> tuple[str, ...]:
    return DEEP if loss == "squared" else ("gd", "momentum", "nesterov", "adam", "standardise + adam", "lbfgs")


def _data(command: Attack, runs: list[ImmunizedRun]) -> DeepData:
    """Features of the runs' images; raises `InputError` for settings that make no sense, or runs that do not fit together."""
    check_left_out(command, (*DECIDED_BY_RUNS, "data_dir", "benign"))
    first = _deep_settings(runs[0])
    for run in runs:
        for name, value in _deep_settings(run).items():
            if value != first[name]:
                raise InputError(
                    f"runs: {runs[0].name} and {run.name} differ in {name}; attack runs of one pair together"
                )
    inputs = read_deep_inputs(**{**first, "weights": Path(first["weights"])}, strict=runs[0].settings["strict"])
    cache = runs[0].settings["cache"]
    data = inputs.data(None if cache is None else Path(cache))
    features = data.head.kernel.shape[0]
    for run in runs:
        if run.theta.shape != (features, features) or not np.isfinite(run.theta).all():
            raise InputError(f"runs: theta of {run.name} is not a finite matrix of shape ({features}, {features})")
    return data


def _deep_settings(run: ImmunizedRun) -> dict[str, Any]:
    """What decides the run's features; a setting that is younger than the run has its default."""
    return {name: run.settings.get(name) or getattr(Immunize, name) for name in DEEP_SETTINGS}


def _measured(run: ImmunizedRun) -> dict[str, Any]:
    """Condition numbers, as the run itself found them."""
    limits = run.results["limit"]
    return {part: {"ratios": ratios, "limit": limits[part]} for part, ratios in run.results["ratios"].items()}


def _print_accuracy(results: Mapping[str, Any]) -> None:
    print(HELDOUT + "\n")
    harmful = results["tasks"]["harmful"]
    names = list(harmful[UNDEFENDED])
    print_table(
        ["attacker", *harmful],
        [[name, *(f"{records[name]['accuracy']['mean']:.3f}" for records in harmful.values())] for name in names],
        title="best held-out accuracy of the harmful classes",
    )
