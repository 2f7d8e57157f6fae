"""`cimm immunize --model --train-from`: the last blocks of a network, trained behind its cached trunk."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from cimm_jax.cli import Immunize, PencilSettings
from cimm_jax.commands.deep_features import DEEP_SETTINGS, TAIL_SETTINGS, DeepInputs, head_of, read_deep_inputs
from cimm_jax.commands.deep_told import print_ratios, print_skipped
from cimm_jax.commands.defences import MODEL_FILE
from cimm_jax.commands.immunize_shared import deliver, print_excess_left, print_verdicts
from cimm_jax.commands.shared import blas_threads_for, manifest, progress_bar
from cimm_jax.commands.tail_measures import accuracies, measured, pairs_of
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_whole
from cimm_jax.methods import tail_penalties
from cimm_jax.methods.tail_penalties import Penalty
from cimm_jax.networks import functional
from cimm_jax.networks.features import DeepFeatures, FeatureSet
from cimm_jax.networks.functional import Split
from cimm_jax.networks.paired_batches import paired_batches
from cimm_jax.networks.tail_checkpoint import TailCheckpoint
from cimm_jax.networks.tail_features import features_behind, tail_features
from cimm_jax.networks.training import Activations, Settings, Trained, train_tail
from cimm_jax.networks.weights import export_weights
from cimm_jax.numerics.spectra import PseudoInverse, feature_condition_number
from cimm_jax.report.history import tail_plot
from cimm_jax.tasks import check_pair

GOES_ON = "training goes on behind its last whole epoch when the same command is given again"
OF_MAPS = ("steps", "resamples", *(field.name for field in dataclasses.fields(PencilSettings)))
"""Settings of maps, which trained blocks do not have."""

POLICY = PseudoInverse()
"""Of the condition numbers on the way."""

MADE_BY = (
    *("method", "train_from", "batch_size", "learning_rate", "lambda_primary", "lambda_harmful", "seed"),
    *TAIL_SETTINGS,
    *DEEP_SETTINGS,
)


def run_deep_tail(command: Immunize) -> None:
    """Trains, measures; writes results.json, model.safetensors, checkpoints and training.png.

    Raises:
      InputError: if a setting is unusable or one of maps, before anything is computed; or if training broke the features.
      KeyboardInterrupt: with what happens when the command is repeated.
    """
    penalties = tail_penalties.by_name(
        command.method, lambda_primary=command.lambda_primary, lambda_harmful=command.lambda_harmful
    )
    if command.strength is not None and all(penalty.weight is not None for penalty in penalties):
        raise InputError("strength: is of balanced penalties, and every weight was given; leave it out")
    settings = _settings(command)
    inputs = read_deep_inputs(**{name: getattr(command, name) for name in DEEP_SETTINGS}, strict=command.strict)
    cut = _cut(str(command.train_from), inputs)
    inputs.check_batch_size(command.batch_size)
    least = min(len(split.train) for split in inputs.images.values())
    settings = dataclasses.replace(settings, batch_rows=min(settings.batch_rows, least))
    folder = output_folder(command.out)
    sets = inputs.outputs(command.cache, cut)
    parts = functional.split(inputs.network, cut)
    before = DeepFeatures(**features_behind(parts, sets, cut))
    pairs = pairs_of(before)
    for part, pair in pairs.items():
        check_pair(pair, part, needs_labels=True)
    with blas_threads_for(pairs["train"].primary.x.shape[1]):
        trained = _trained(command, parts, sets, cut, penalties, settings, inputs.described())
        network = functional.merge(trained.parts)
        export_weights(network, folder / MODEL_FILE)
        after = DeepFeatures(**features_behind(trained.parts, sets, cut))
        judged = accuracies(before, head_of(inputs.network)), accuracies(after, head_of(network))
        results: dict[str, Any] = {
            **manifest(command, pairs),
            "data": {
                "data": f"{command.model} trained from {cut}",
                **{task: getattr(command, task) for task in ("primary", "harmful")},
            },
            "rows": {
                part: {task: len(rows.x) for task, rows in pair._asdict().items()} for part, pair in pairs.items()
            },
            **measured(pairs_of(after), pairs, jax.random.key(command.seed + 1)),
            "history": _history(trained),
            "deep": {
                **inputs.described(),
                "lambdas": trained.weights,
                "training": dataclasses.asdict(settings),
                "primary_kept": {
                    part: {"accuracy_before": judged[0][part], "accuracy_after": judged[1][part]} for part in judged[0]
                },
            },
        }
    title = f"{command.method} on {command.model} from {cut}"
    write_whole(folder / "training.png", _picture(trained, title))
    beside = f"{MODEL_FILE}, training.png and checkpoint/"
    deliver(command, folder, results, partial(_print, title, results), beside=beside)


def _cut(cut: str, inputs: DeepInputs) -> str:
    """The cut; raises `InputError` with the known ones unless something stands behind it."""
    cuts = inputs.network.cuts[:-1]
    if cut not in cuts:
        raise InputError(f"train_from: {cut!r} is no cut with blocks behind it; choose one of {', '.join(cuts)}")
    return cut


def _settings(command: Immunize) -> Settings:
    for name in OF_MAPS:
        if getattr(command, name) != getattr(Immunize, name):
            raise InputError(f"{name}: is a setting of maps; leave it out with --train-from")
    given = {"batch_rows": command.batch_size, **{name: getattr(command, name) for name in TAIL_SETTINGS}}
    given = {name: value for name, value in given.items() if value is not None}
    return Settings(learning_rate=command.learning_rate, seed=command.seed, **given)


def _trained(
    command: Immunize,
    parts: Split,
    sets: dict[str, FeatureSet],
    cut: str,
    penalties: tuple[Penalty, ...],
    settings: Settings,
    described: dict[str, Any],
) -> Trained:
    primary, harmful = (Activations(*sets[task].train) for task in ("primary", "harmful"))
    counts = len(primary.labels), len(harmful.labels)
    epoch = len(list(paired_batches(*counts, settings.batch_rows, epoch=0, seed=settings.seed)))
    made_by = {name: getattr(command, name) for name in MADE_BY}
    made_by = {name: str(value) if isinstance(value, Path) else value for name, value in made_by.items()}
    with progress_bar(f"{command.method} on {command.model} from {cut}", epoch * settings.epochs) as progress:
        try:
            return train_tail(
                parts,
                cut,
                primary,
                harmful,
                penalties=penalties,
                settings=settings,
                checkpoint=TailCheckpoint(command.out / "checkpoint", {**made_by, "data": described}),
                observe=lambda now: _kappas(now, sets, cut),
                progress=progress,
            )
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(GOES_ON) from interrupt


def _kappas(parts: Split, sets: dict[str, FeatureSet], cut: str) -> dict[str, float]:
    """Condition numbers of both tasks' training rows."""
    found = {}
    for task, images in sets.items():
        features = tail_features(parts, images.train.x, cut)
        if not np.isfinite(features).all() or not features.any():
            raise InputError(
                f"learning_rate: training made the {task} features zero or infinite; choose a smaller one, or smaller lambdas"
            )
        found[task] = float(feature_condition_number(jnp.asarray(features), POLICY).kappa)
    return found


def _history(trained: Trained) -> dict[str, Any]:
    """Losses of every step; condition numbers before the first epoch and after each, under the policy named."""
    return {
        "loss": trained.losses,
        "policy": type(POLICY).__name__,
        **{f"kappa_{task}": [record[task] for record in trained.observed] for task in ("primary", "harmful")},
    }


def _picture(trained: Trained, title: str) -> bytes:
    kappas = {task: np.array([record[task] for record in trained.observed]) for task in ("harmful", "primary")}
    steps = np.linspace(0, len(trained.losses), len(trained.observed))
    return tail_plot(trained.losses, kappas, steps=steps, policy=type(POLICY).__name__, title=title)


def _print(title: str, results: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    print_ratios(console, title, results)
    print_excess_left(results["excess_left"], note=", targets centred")
    for part, kept in results["deep"]["primary_kept"].items():
        console.print(
            f"\nPrimary accuracy on {part} images: {kept['accuracy_before']:.4f} before, {kept['accuracy_after']:.4f} after",
            markup=False,
        )
    print_skipped(console, results["deep"])
    print_verdicts(console, results["verdict"])
