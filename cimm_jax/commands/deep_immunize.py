"""`cimm immunize --model`: a linear map behind a network's features, the published head absorbing its inverse."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from safetensors.numpy import save

from cimm_jax import methods
from cimm_jax.cli import Immunize
from cimm_jax.closed_form.limits import share_of_pair
from cimm_jax.commands.deep_features import DEEP_SETTINGS, TAIL_SETTINGS, DeepData, read_deep_inputs
from cimm_jax.commands.deep_told import print_ratios, print_skipped
from cimm_jax.commands.defences import LIGHT_RIDGE
from cimm_jax.commands.immunize_shared import deliver, excess_curves, print_excess_left, print_verdicts
from cimm_jax.commands.shared import (
    POLICIES,
    blas_threads_for,
    build_methods,
    hessian_for,
    manifest,
    progress_bar,
    ratio_record,
)
from cimm_jax.errors import InputError
from cimm_jax.files import output_folder, write_whole
from cimm_jax.measures.bootstrap import RatioIntervals, bootstrap_ratio, check_resamples
from cimm_jax.measures.groups import GROUP_ROWS, GROUPS, grouped_ratio
from cimm_jax.measures.metrics import definition_3_1, relative_immunization_ratio
from cimm_jax.methods import immunize
from cimm_jax.methods.run import check_steps
from cimm_jax.networks.head import UNCHANGED, primary_kept
from cimm_jax.report.convergence import convergence_plot
from cimm_jax.tasks import TaskPair, check_pair


def run_deep_immunize(command: Immunize) -> None:
    """Computes features, immunizes, measures; writes results.json, theta.safetensors, head.safetensors and a picture."""
    command = _with_defaults(command)
    method = build_methods(
        [command.method],
        command.learning_rate,
        command,
        lambda_primary=command.lambda_primary,
        lambda_harmful=command.lambda_harmful,
        implied=hessian_for(command.batch_size),
    )[command.method]
    check_steps(command.steps)
    for name in TAIL_SETTINGS:
        if getattr(command, name) is not None:
            raise InputError(f"{name}: is a setting of --train-from; add that, or leave it out")
    if command.resamples is not None:
        check_resamples(command.resamples)
    inputs = read_deep_inputs(**{name: getattr(command, name) for name in DEEP_SETTINGS}, strict=command.strict)
    inputs.check_batch_size(command.batch_size)
    folder = output_folder(command.out)
    data = inputs.data(command.cache)
    parts = {part: pair for part in ("train", "heldout") if (pair := data.features.pair(part)) is not None}
    for part, pair in parts.items():
        check_pair(pair, part, needs_labels=True)
    parts = {part: jax.tree.map(jnp.asarray, pair) for part, pair in parts.items()}  # as one tree it would be sorted
    with blas_threads_for(data.head.kernel.shape[0]):
        theta = _immunized(command, method, parts["train"])
        # Before the measurements, which take longer.
        write_whole(folder / "head.safetensors", data.head.absorbed(theta).to_bytes())
        write_whole(folder / "theta.safetensors", save({"theta": theta}))
        results = {**manifest(command, parts), **_measured(command, data, theta, parts)}
    title = f"{command.method} on {command.model}"
    write_whole(folder / "convergence.png", convergence_plot(results["excess_left"], title=title))
    beside = "theta.safetensors, head.safetensors and convergence.png"
    deliver(command, folder, results, partial(_print, title, results), beside=beside)


def _with_defaults(command: Immunize) -> Immunize:
    """`pencil` looks at labels, with a light ridge: the published head absorbs the map, so the primary task pays nothing."""
    if command.method != "pencil" or command.objective == "kappa":
        return command
    return replace(command, objective="signal", ridge=LIGHT_RIDGE if command.ridge is None else command.ridge)


def _immunized(command: Immunize, method: methods.Method, pair: TaskPair) -> np.ndarray:
    steps = 1 if method.closed_form else command.steps
    with progress_bar(f"{command.method} on {command.model}", steps) as progress:
        result = immunize(
            method,
            pair,
            key=jax.random.key(command.seed),
            steps=steps,
            batch_size=command.batch_size,
            # One record: condition numbers of so many features cost more than the steps.
            record_every=steps,
            progress=progress,
        )
    return np.asarray(result.theta)


def _measured(command: Immunize, data: DeepData, theta: np.ndarray, parts: dict[str, TaskPair]) -> dict[str, Any]:
    mapped, train = jnp.asarray(theta), parts["train"]
    group_key, bootstrap_key = jax.random.split(jax.random.key(command.seed + 1))
    spectra = {
        part: {type(policy).__name__: relative_immunization_ratio(mapped, pair, policy) for policy in POLICIES}
        for part, pair in parts.items()
    }
    rows = min(GROUP_ROWS, *(len(task.x) for task in train))
    return {
        "data": {"data": command.model, "primary": command.primary, "harmful": command.harmful},
        "rows": {
            part: {"primary": len(pair.primary.x), "harmful": len(pair.harmful.x)} for part, pair in parts.items()
        },
        "ratios": {part: {name: ratio_record(r) for name, r in named.items()} for part, named in spectra.items()},
        "groups": {
            type(policy).__name__: grouped_ratio(
                mapped, train, group_key, policy=policy, groups=GROUPS, rows=rows
            )._asdict()
            for policy in POLICIES
        },
        "limit": {part: share_of_pair(mapped, pair)._asdict() for part, pair in parts.items()},
        "intervals": {part: _intervals(command, mapped, pair, bootstrap_key)._asdict() for part, pair in parts.items()},
        "excess_left": {part: excess_curves(mapped, pair) for part, pair in parts.items()},
        "verdict": {part: definition_3_1(mapped, pair, fit_on=train.primary)._asdict() for part, pair in parts.items()},
        # Nothing is recorded on the way; the page draws a history of more than one record only.
        "history": {"kappa_primary": [], "kappa_harmful": []},
        "deep": {**data.described, "primary_kept": _kept(data, theta)},
    }


def _kept(data: DeepData, theta: np.ndarray) -> dict[str, Any]:
    """By part: accuracies of the published head before and after, and how much the logits changed."""
    absorbed = data.head.absorbed(theta)
    return {
        name: primary_kept(data.head, absorbed, theta, part.x, part.labels)._asdict()
        for name, part in data.plain_primary().items()
    }


def _intervals(command: Immunize, theta: jax.Array, pair: TaskPair, key: jax.Array) -> RatioIntervals:
    """Bootstrap intervals if resamples were asked for: each costs four decompositions of all features."""
    if command.resamples is None:
        nothing: Any = (None, None)
        return RatioIntervals(*[nothing] * len(RatioIntervals._fields))
    return bootstrap_ratio(key, theta, pair, resamples=command.resamples)


def _print(title: str, results: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    print_ratios(console, title, results)
    print_excess_left(results["excess_left"], note=", targets centred")
    for part, kept in results["deep"]["primary_kept"].items():
        console.print(
            f"\nPrimary accuracy of the published head on {part} images: {kept['accuracy_before']:.4f} before, "
            f"{kept['accuracy_after']:.4f} after; float32 logits changed by at most {kept['largest_change']:.1e} of their "
            f"length ({'unchanged' if kept['unchanged'] else 'CHANGED'}: allowed {UNCHANGED:.0e})",
            markup=False,
        )
    print_skipped(console, results["deep"])
    print_verdicts(console, results["verdict"])
