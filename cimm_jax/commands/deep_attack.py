"""`cimm attack` on runs of `cimm immunize --model`: new linear probes of harmful and primary classes on the features."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cimm_jax.attacks import Operator, Swept
from cimm_jax.attacks.class_sweep import DEEP, attack_features, attack_networks
from cimm_jax.cli import Attack, Immunize
from cimm_jax.commands.attack_shared import (
    all_finished,
    check_left_out,
    deliver,
    operators_of,
    sweep_records,
    swept_by_task,
)
from cimm_jax.commands.battlefield import DECIDED_BY_RUNS
from cimm_jax.commands.deep_features import DEEP_SETTINGS, DeepData, DeepInputs, is_deep, read_deep_inputs
from cimm_jax.commands.defences import ImmunizedRun, TrainedRun, is_trained, read_runs, read_trained_runs
from cimm_jax.commands.runs import read_results
from cimm_jax.commands.shared import blas_threads_for, check_count, manifest
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder
from cimm_jax.report.attack_facts import UNDEFENDED
from cimm_jax.report.tables import print_table

PRIMARY_ABSORBED = (
    "The published head absorbs the map, so who uses the primary task as it is pays nothing (primary_kept in the run's "
    "results.json)."
)
PRIMARY_TRAINED = "What the primary task paid stands under primary_kept in each run's results.json."

UNDO = "undo the map"

Runs = Sequence[ImmunizedRun] | Sequence[TrainedRun]


def are_deep(folders: tuple[Path, ...]) -> bool:
    """Whether any of the folders is of a network."""
    return any(is_deep(read_results(folder)["settings"]) for folder in folders)


def are_trained(folders: tuple[Path, ...]) -> bool:
    """Whether any of the folders is of a network whose last blocks were trained."""
    return any(is_trained(read_results(folder)) for folder in folders)


def run_deep_attack(command: Attack) -> None:
    """Reads runs and features, attacks, writes results.json and attack.png, prints what broke which map first.

    Raises:
      KeyboardInterrupt: after everything that had been finished was written and printed.
    """
    check_count(command.seeds, "seeds")
    operators = operators_of(command, _standard(command.loss))
    runs = read_runs(command.runs)
    data = _data(command, runs)
    features = data.head.kernel.shape[0]
    thetas = {UNDEFENDED: np.eye(features), **{run.name: run.theta for run in runs}}
    folder = output_folder(command.out)
    keys = jax.random.split(jax.random.key(command.seed), command.seeds)
    tasks = {
        task: partial(attack_features, getattr(data.features, task), thetas, operators, keys=keys)
        for task in _attacked(command, data.described)
    }
    with blas_threads_for(features):
        swept = swept_by_task(tasks, operators)
    _deliver(command, folder, runs, data.described, operators, swept, note=PRIMARY_ABSORBED)


def run_trained_attack(command: Attack) -> None:
    """The same for networks whose last blocks were trained: each run's exported weights, beside the published ones.

    Raises:
      KeyboardInterrupt: after everything that had been finished was written and printed.
    """
    check_count(command.seeds, "seeds")
    for name in command.attackers:
        if UNDO in name:
            raise InputError(f"attackers: {name!r} needs runs that made a map; trained blocks have none")
    operators = operators_of(command, [name for name in _standard(command.loss) if UNDO not in name])
    runs = read_trained_runs(command.runs)
    inputs, cache = _inputs(command, runs)
    networks = {run.name: inputs.with_weights(run.weights) for run in runs}
    folder = output_folder(command.out)
    described = inputs.described()
    features = {
        name: of._replace(images={task: inputs.images[task] for task in _attacked(command, described)}).outputs(cache)
        for name, of in {UNDEFENDED: inputs, **networks}.items()
    }
    keys = jax.random.split(jax.random.key(command.seed), command.seeds)
    tasks = {
        task: partial(attack_networks, {name: of[task] for name, of in features.items()}, operators, keys=keys)
        for task in _attacked(command, described)
    }
    with blas_threads_for(described["features"]):
        swept = swept_by_task(tasks, operators)
    _deliver(command, folder, runs, described, operators, swept, note=PRIMARY_TRAINED)


def _attacked(command: Attack, described: Mapping[str, Any]) -> tuple[str, ...]:
    """The harmful task, and the primary one if it is wanted and there are images of it to judge new probes on.

    Raises:
      InputError: if there are none of the harmful one.
    """
    if "heldout" not in described["harmful"]:
        raise InputError("harmful: has no held-out images to judge attackers on; give a folder with train and test")
    return ("harmful", "primary") if "heldout" in described["primary"] and not command.harmful_only else ("harmful",)


def _deliver(
    command: Attack,
    folder: Path,
    runs: Runs,
    described: dict[str, Any],
    operators: Sequence[Operator],
    swept: Mapping[str, Mapping[str, Swept]],
    *,
    note: str,
) -> None:
    results: dict[str, Any] = {
        **manifest(command),
        "data": {"data": runs[0].settings["model"], **{t: runs[0].settings[t] for t in ("primary", "harmful")}},
        "deep": described,
        "rows": {task: {part: rows["images"] for part, rows in described[task].items()} for task in swept},
        "classes": True,
        "extractors": {run.name: _measured(run.results) for run in runs},
        **sweep_records(command, operators, swept, [UNDEFENDED, *(run.name for run in runs)]),
    }
    deliver(
        command,
        folder,
        results,
        complete=all_finished(swept, _attacked(command, described), operators),
        print_more=lambda shown: _print_accuracy(shown, note),
    )


def _standard(loss: str) -> tuple[str, ...]:
    return DEEP if loss == "squared" else ("gd", "momentum", "nesterov", "adam", "standardise + adam", "lbfgs")


def _data(command: Attack, runs: list[ImmunizedRun]) -> DeepData:
    """Features of the runs' images; raises `InputError` for settings that make no sense, or runs that do not fit together."""
    inputs, cache = _inputs(command, runs)
    data = inputs.data(cache)
    features = data.head.kernel.shape[0]
    for run in runs:
        if run.theta.shape != (features, features) or not np.isfinite(run.theta).all():
            raise InputError(f"runs: theta of {run.name} is not a finite matrix of shape ({features}, {features})")
    return data


def _inputs(command: Attack, runs: Runs) -> tuple[DeepInputs, Path | None]:
    """Network and images of the runs, and their cache; raises `InputError` as `_data`."""
    check_left_out(command, (*DECIDED_BY_RUNS, "data_dir", "benign"))
    first = _deep_settings(runs[0])
    for run in runs:
        for name, value in _deep_settings(run).items():
            if value != first[name]:
                raise InputError(
                    f"runs: {runs[0].name} and {run.name} differ in {name}; attack runs of one pair together"
                )
    inputs = read_deep_inputs(**{**first, "weights": Path(first["weights"])}, strict=runs[0].settings["strict"])
    described = inputs.described()
    for task in _attacked(command, described):
        if command.loss == "softmax" and described[task]["train"]["classes"] == 2:
            raise InputError(f"loss: the {task} task has two classes; use --loss logistic")
    cache = runs[0].settings["cache"]
    return inputs, None if cache is None else Path(cache)


def _deep_settings(run: ImmunizedRun | TrainedRun) -> dict[str, Any]:
    """What decides the run's features; a setting that is younger than the run has its default."""
    return {name: run.settings.get(name) or getattr(Immunize, name) for name in DEEP_SETTINGS}


def _measured(results: Mapping[str, Any]) -> dict[str, Any]:
    """Condition numbers, as the run itself found them."""
    limits = results["limit"]
    return {part: {"ratios": ratios, "limit": limits[part]} for part, ratios in results["ratios"].items()}


def _print_accuracy(results: Mapping[str, Any], note: str) -> None:
    print(f"{note}\n")
    for task, by_extractor in results["tasks"].items():
        names = list(by_extractor[UNDEFENDED])
        print_table(
            ["attacker", *by_extractor],
            [
                [name, *(f"{records[name]['accuracy']['mean']:.3f}" for records in by_extractor.values())]
                for name in names
            ],
            title=f"best held-out accuracy, {task} classes",
        )
