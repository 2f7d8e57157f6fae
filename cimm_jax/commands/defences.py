"""The extractors that `cimm attack` attacks: made by methods, or read from the folders that `cimm immunize` wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cimm_jax import methods
from cimm_jax.cli import Attack, PencilSettings
from cimm_jax.closed_form.allocation import SignalAware
from cimm_jax.commands.runs import read_results
from cimm_jax.commands.shared import build_methods, hessian_for, parse_budget
from cimm_jax.errors import InputError
from cimm_jax.measures.metrics import check_extractor
from cimm_jax.methods import Method, immunize
from cimm_jax.tasks import TaskPair

MODEL_FILE = "model.safetensors"
"""Of a run that trained the last blocks of a network: all its weights."""

LIGHT_RIDGE = 1e-6
"""A heavier one hides the directions that a signal-aware budget would be spent on."""

SIGNAL_AWARE = {"pencil_signal": (), "pencil_no_slower": (10, 100, 1000)}
"""The closed form that knows the labels, by the numbers of steps at which it keeps the primary task no slower."""


def build_defences(names: Sequence[str], command: Attack) -> dict[str, Method]:
    """Methods by name, `pencil_signal` and `pencil_no_slower` among them.

    Raises:
      InputError: if a name is unknown (the message lists the known), repeats, or a setting is unusable.
    """
    known = (*methods.BY_NAME, *SIGNAL_AWARE)
    for name in names:
        if name not in known:
            raise InputError(f"methods: {name!r} is unknown; choose of {', '.join(known)}")
    if len(set(names)) < len(names):
        raise InputError(f"methods: {', '.join(names)} repeats a name; give each once")
    plain = [name for name in names if name in methods.BY_NAME]
    signal_aware = [name for name in names if name in SIGNAL_AWARE]
    # The settings of pencil are for the signal-aware ones too, and then no mistake where it is not asked for itself.
    pencil_settings = command if "pencil" in plain or not signal_aware else PencilSettings()
    implied = hessian_for(command.batch_size)
    built = build_methods(plain, command.learning_rate, pencil_settings, implied=implied) if plain else {}
    for name in signal_aware:
        built[name] = methods.pencil(
            budget="keep" if command.budget is None else parse_budget(command.budget),
            objective=SignalAware(primary_no_slower_at=SIGNAL_AWARE[name]),
            ridge=LIGHT_RIDGE if command.ridge is None else command.ridge,
            rotate=command.rotate,
        )
    return {name: built[name] for name in names}


def immunized(method: Method, pair: TaskPair, *, seed: int, steps: int, batch_size: int | None = None) -> jax.Array:
    """The extractor that a method makes, shape (d, d)."""
    key = jax.random.key(seed)
    # One record: the condition numbers on the way are not shown, and with many features cost more than the steps.
    return immunize(method, pair, key=key, steps=steps, record_every=steps, batch_size=batch_size).theta


class ImmunizedRun(NamedTuple):
    """A folder of `cimm immunize`.

    Attributes:
      name: the folder's.
      results: its results.json.
      theta: extractor, shape (d, m).
    """

    name: str
    results: dict[str, Any]
    theta: np.ndarray

    @property
    def settings(self) -> dict[str, Any]:
        """Of the command that wrote it."""
        return self.results["settings"]


class TrainedRun(NamedTuple):
    """A folder of `cimm immunize --train-from`.

    Attributes:
      name: the folder's.
      results: its results.json.
      weights: file of the whole immunized network.
    """

    name: str
    results: dict[str, Any]
    weights: Path

    @property
    def settings(self) -> dict[str, Any]:
        """Of the command that wrote it."""
        return self.results["settings"]


DATA_SETTINGS = ("data", "data_dir", "primary", "harmful")


def read_runs(folders: Sequence[Path]) -> list[ImmunizedRun]:
    """The runs in the folders, which must be of one pair of tasks.

    Raises:
      InputError: if a folder is no run of `cimm immunize`, is damaged or of another version, or two runs differ in their data.
    """
    runs = [_read_run(folder) for folder in folders]
    _check_together(runs)
    return runs


def read_trained_runs(folders: Sequence[Path]) -> list[TrainedRun]:
    """The same of runs that trained the last blocks of a network.

    Raises:
      InputError: as `read_runs`, or if a run made a map: features of maps and of networks are attacked apart.
    """
    runs = []
    for folder in folders:
        results = _read_results(folder)
        if not is_trained(results):
            raise InputError(f"runs: {folder} made a map, others trained blocks (--train-from); attack them apart")
        runs.append(TrainedRun(folder.resolve().name, results, folder / MODEL_FILE))
    _check_together(runs)
    return runs


def is_trained(results: Mapping[str, Any]) -> bool:
    """Whether results.json is of a run that trained the last blocks of a network."""
    return results["settings"].get("train_from") is not None


def check_run(run: ImmunizedRun, pair: TaskPair) -> None:
    """Raises `InputError` unless the run's extractor is a finite square one that fits the pair."""
    check_extractor(run.theta, pair, f"theta of {run.name}")
    if run.theta.shape[0] != run.theta.shape[1] or not np.isfinite(run.theta).all():
        raise InputError(f"runs: theta of {run.name} is not a finite square matrix; immunize again")


def _check_together(runs: Sequence[ImmunizedRun] | Sequence[TrainedRun]) -> None:
    for run in runs[1:]:
        for setting in DATA_SETTINGS:
            if run.settings[setting] != runs[0].settings[setting]:
                raise InputError(
                    f"runs: {runs[0].name} has {setting} {runs[0].settings[setting]} and {run.name} {run.settings[setting]}; "
                    "attack runs of one pair together"
                )
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise InputError(f"runs: {', '.join(names)}: two folders have the same name; rename one")


def _read_results(folder: Path) -> dict[str, Any]:
    results = read_results(folder)
    if results["command"] != "immunize":
        raise InputError(f"runs: {folder} is a run of cimm {results['command']}; give folders of cimm immunize")
    return results


def _read_run(folder: Path) -> ImmunizedRun:
    results = _read_results(folder)
    path = folder / "theta.safetensors"
    try:
        theta = load_file(path)["theta"]
    except (OSError, KeyError, SafetensorError) as error:
        raise InputError(f"runs: {path} is missing or damaged ({error}); immunize again") from error
    return ImmunizedRun(folder.resolve().name, results, theta.astype(np.float64))
