"""`cimm immunize`: one pair, one method, a verdict."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from safetensors.numpy import save

from cimm_jax.cli import Immunize
from cimm_jax.closed_form.limits import Share, share_of_pair
from cimm_jax.commands.immunize_shared import NO_COMPARISON, deliver, excess_curves, print_excess_left, print_verdicts
from cimm_jax.commands.shared import POLICIES, build_methods, manifest, progress_bar, ratio_record
from cimm_jax.data import load_pair
from cimm_jax.files import output_folder, write_whole
from cimm_jax.measures.bootstrap import COVERAGE, RatioIntervals, bootstrap_ratio, check_resamples
from cimm_jax.measures.metrics import definition_3_1, relative_immunization_ratio
from cimm_jax.methods import immunize
from cimm_jax.methods.run import check_batch_size, check_steps
from cimm_jax.report.convergence import convergence_plot
from cimm_jax.report.history import history_plot
from cimm_jax.report.tables import print_table
from cimm_jax.tasks import TaskPair, check_pair

LARGE = 1e8


def run_immunize(command: Immunize) -> None:
    """Loads, immunizes, measures on training and held-out rows, writes results.json, theta.safetensors and pictures."""
    method = build_methods(
        [command.method],
        command.learning_rate,
        command,
        lambda_primary=command.lambda_primary,
        lambda_harmful=command.lambda_harmful,
    )[command.method]
    split = load_pair(command.data, data_dir=command.data_dir, primary=command.primary, harmful=command.harmful)
    check_pair(split.heldout, "heldout")
    if command.resamples is not None:
        check_resamples(command.resamples)
    check_steps(command.steps)
    check_batch_size(command.batch_size, split.train)
    split = jax.tree.map(jnp.asarray, split)
    folder = output_folder(command.out)
    key, bootstrap_key = jax.random.key(command.seed), jax.random.key(command.seed + 1)
    steps = 1 if method.closed_form else command.steps
    with progress_bar(f"{command.method} on {command.data}", steps) as progress:
        result = immunize(method, split.train, key=key, steps=steps, batch_size=command.batch_size, progress=progress)
    theta, parts = result.theta, {"train": split.train, "heldout": split.heldout}
    ratios = {
        part: {type(policy).__name__: relative_immunization_ratio(theta, pair, policy) for policy in POLICIES}
        for part, pair in parts.items()
    }
    shares = {part: share_of_pair(theta, pair) for part, pair in parts.items()}
    intervals = {
        part: bootstrap_ratio(bootstrap_key, theta, pair, resamples=_resamples(command, pair))
        for part, pair in parts.items()
    }
    curves = {part: excess_curves(theta, pair) for part, pair in parts.items()}
    verdicts = {part: definition_3_1(theta, pair, fit_on=split.train.primary)._asdict() for part, pair in parts.items()}
    title = f"{command.method} on {command.data}"
    results: dict[str, Any] = {
        **manifest(command, split),
        "rows": {
            part: {"primary": len(pair.primary.x), "harmful": len(pair.harmful.x)} for part, pair in parts.items()
        },
        "ratios": {part: {name: ratio_record(r) for name, r in named.items()} for part, named in ratios.items()},
        "limit": {part: share._asdict() for part, share in shares.items()},
        "intervals": {part: interval._asdict() for part, interval in intervals.items()},
        "excess_left": curves,
        "verdict": verdicts,
        "history": result.history._asdict(),
    }
    write_whole(folder / "theta.safetensors", save({"theta": np.asarray(theta)}))
    pictures = {"convergence.png": convergence_plot(curves, title=title)}
    if not method.closed_form:
        pictures["history.png"] = history_plot(result.history, title=title)
    for name, content in pictures.items():
        write_whole(folder / name, content)
    tell = partial(_print, title, ratios, shares, intervals, curves, verdicts)
    deliver(command, folder, results, tell, beside=f"theta.safetensors and {' and '.join(pictures)}")


def _resamples(command: Immunize, pair: TaskPair) -> int:
    if command.resamples is not None:
        return command.resamples
    rows, features = pair.harmful.x.shape
    return 200 if rows * features**2 <= LARGE else 20


def _print(
    title: str,
    ratios: dict,
    shares: dict[str, Share],
    intervals: dict[str, RatioIntervals],
    curves: dict[str, dict[str, np.ndarray]],
    verdicts: dict,
) -> None:
    columns = [
        "rows",
        "policy",
        "(i) harmful",
        "(ii) primary",
        "RIR",
        f"RIR, {COVERAGE:.0%} interval",
        "share of the limit",
        "rank H",
        "rank P",
        "a floor decided",
    ]
    rows = [
        [
            part,
            policy,
            float(ratio.harmful_ratio),
            float(ratio.primary_ratio),
            float(ratio.rir),
            "{:.3g} to {:.3g}".format(*intervals[part].rir) if policy == "PseudoInverse" else "",
            f"{float(shares[part].share):.3f}" if policy == "PseudoInverse" else "",
            int(ratio.harmful.rank),
            int(ratio.primary.rank),
            "yes" if bool(ratio.floored) else "no",
        ]
        for part, named in ratios.items()
        for policy, ratio in named.items()
    ]
    print_table(columns, rows, title=f"{title}: condition numbers, after over before")
    console = Console(soft_wrap=True, highlight=False)
    console.print(NO_COMPARISON + "\n")
    print_excess_left(curves)
    print_verdicts(console, verdicts)
