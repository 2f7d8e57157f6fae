"""What the experiments share: settings, folders of data, and the extractors of every method."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp

from cimm_jax import methods
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.methods import HessianFrom, Method
from cimm_jax.tasks import SplitPair, TaskPair

PUBLISHED = ("ill_only", "imma", "opt_kappa", "algorithm1")
"""The methods of the paper, in the order of its tables."""

CIFAR = "cifar10/cifar10_subset.npz"
"""In the folder of data."""


def parser(description: str | None, out: str) -> argparse.ArgumentParser:
    """A parser with the settings of every experiment; the description is the module's docstring."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--data-dir", type=Path, required=True, help="folder that holds house_prices/, mnist/, cifar10/ and so on"
    )
    made.add_argument("--out", type=Path, default=Path(out))
    made.add_argument("--seed", type=int, default=0, help="first seed")
    return made


def drawing_parser(description: str | None, *, runs: str, out: str) -> argparse.ArgumentParser:
    """The same for a figure of what a table found, which needs no data: the folder of the table, and where to draw."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--runs", type=Path, default=Path(runs), help="folder of the table's runs")
    made.add_argument("--out", type=Path, default=Path(out))
    return made


def every_method(hessian: HessianFrom = HessianFrom.DATA) -> dict[str, Method]:
    """The paper's methods, and the closed form in its three uses."""
    return methods.build_methods((*PUBLISHED, "pencil", *methods.PRESETS), {}, {"hessian": hessian})


def immunized(method: Method, pair: TaskPair, *, seed: int, steps: int, batch_size: int | None = None) -> jax.Array:
    """The extractor that a method makes, shape (d, d)."""
    key = jax.random.key(seed)
    # One record: the condition numbers on the way are not shown, and with many features cost more than the steps.
    return methods.immunize(method, pair, key=key, steps=steps, record_every=steps, batch_size=batch_size).theta


def extractors(
    chosen: Mapping[str, Method],
    split: SplitPair,
    *,
    seeds: int,
    first_seed: int,
    steps: int,
    batch_size: int | None = None,
) -> dict[str, list[jax.Array]]:
    """By method, one extractor a seed; the undefended identity first. Closed forms do not depend on the batches."""
    pair = jax.tree.map(jnp.asarray, split.train)
    found = {UNDEFENDED: [jnp.eye(pair.primary.x.shape[1])]}
    for name, method in chosen.items():
        found[name] = [
            immunized(method, pair, seed=first_seed + seed, steps=steps, batch_size=batch_size) for seed in range(seeds)
        ]
    return found
