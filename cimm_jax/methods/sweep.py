"""Many pairs, many seeds, many methods at once: `vmap` over pairs and seeds, all methods inside one `jit`."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.limits import SeenInRange, Share, pair_pencil, seen_in_range, share_of_limit
from cimm_jax.methods.protocol import Method
from cimm_jax.methods.run import Run, advance, check_batch_size, check_steps, start
from cimm_jax.metrics import ImmunizationRatio, Judgement, judge, relative_immunization_ratio
from cimm_jax.spectra import ReleasedCode
from cimm_jax.tasks import SplitPair, TaskPair, check_pair

Runs = dict[str, Run]
"""One run per method; every leaf has the leading axes (pairs, seeds)."""


class Measured(NamedTuple):
    """What one method achieved on every pair with every seed; every leaf has shape (pairs, seeds).

    Attributes:
      train: judged on the training rows under `PseudoInverse()`, the definition.
      heldout: the same on rows the method never saw; the primary probes are fitted on the training rows.
      released: ratios on the training rows under `ReleasedCode()`, to compare with published figures only.
      share: against the exact limit of the training rows; its `exceeded` is never set if the code is right.
    """

    train: Judgement
    heldout: Judgement
    released: ImmunizationRatio
    share: Share


def sweep(
    methods: Mapping[str, Method],
    split: SplitPair,
    *,
    keys: jax.Array,
    steps: int = 150,
    batch_size: int | None = None,
    chunks: int = 10,
    runs: Runs | None = None,
    checkpoint: Callable[[int, Runs], None] | None = None,
) -> dict[str, Measured]:
    """Immunizes every pair with every method and every seed, and measures.

    Three functions are compiled (start, advance, measure), each once, however many pairs, seeds, methods and steps.

    Args:
      methods: the methods by name.
      split: stacked pairs (`stack_pairs`), every leaf with a leading axis of pairs; both tasks with targets.
      keys: one per seed, shape (seeds,).
      steps: steps of each method.
      batch_size: rows per step, or None for all.
      chunks: how many calls the steps are divided into, cut to `steps`; between calls the host sees progress.
      runs: where an interrupted sweep had come to, as its `checkpoint` was last given it; None starts anew.
      checkpoint: called after each chunk with the number of steps made and the runs.

    Raises:
      InputError: if there is no method or no seed, the pairs are not stacked or lack targets, or a number is out of range.
    """
    if not methods:
        raise InputError("methods: is empty; give at least one method")
    _check_stack(split, needs_labels=any(method.needs_targets for method in methods.values()))
    check_steps(steps)
    check_batch_size(batch_size, split.train)
    if np.ndim(keys) != 1 or not len(keys):
        raise InputError(f"keys: needs shape (seeds,) with at least one seed, got {np.shape(keys)}")
    items = tuple(methods.items())
    current: Runs = runs or _start(items, keys, split.train)
    made = steps_made(current)
    length = -(-steps // max(1, min(chunks, steps)))
    while made < steps:
        # The last chunk may be shorter; a traced trip count keeps it from being compiled again.
        current = _advance(items, current, split.train, jnp.asarray(min(length, steps - made)), batch_size)
        made = steps_made(current)
        if checkpoint is not None:
            checkpoint(made, current)
    measured = _measure(items, current, split)
    return {name: measured[name] for name in methods}  # jit sorts the keys of a dict


def abstract_runs(methods: Mapping[str, Method], split: SplitPair, keys: jax.Array) -> Runs:
    """Shapes and dtypes of the runs of such a sweep, without computing them: what a checkpoint is restored into."""
    return jax.eval_shape(partial(_start, tuple(methods.items())), keys, split.train)


@partial(jax.jit, static_argnums=0)
def _start(items, keys: jax.Array, pairs: TaskPair):
    def every_seed(method: Method, pair: TaskPair) -> Run:
        return jax.vmap(lambda key: start(method, key, pair))(keys)

    return {name: jax.vmap(partial(every_seed, method))(pairs) for name, method in items}


@partial(jax.jit, static_argnums=(0, 4), donate_argnums=1)
def _advance(items, runs: Runs, pairs: TaskPair, steps, batch_size):
    def one(method: Method, run: Run, pair: TaskPair) -> Run:
        return advance(method, run, pair, steps=steps, batch_size=batch_size)[0]

    return {name: _every_run(partial(one, method))(runs[name], pairs) for name, method in items}


@partial(jax.jit, static_argnums=0)
def _measure(items, runs: Runs, split: SplitPair):
    def one(method: Method, run: Run, measured_on: tuple[SplitPair, SeenInRange]) -> Measured:
        split, seen = measured_on
        theta = method.extractor(run.state)
        return Measured(
            judge(theta, split.train),
            judge(theta, split.heldout, fit_on=split.train.primary),
            relative_immunization_ratio(theta, split.train, ReleasedCode()),
            share_of_limit(theta, seen),
        )

    seen = jax.vmap(lambda pair: seen_in_range(pair_pencil(pair)))(split.train)
    return {name: _every_run(partial(one, method))(runs[name], (split, seen)) for name, method in items}


def steps_made(runs: Runs) -> int:
    """How many steps every run has made."""
    return int(next(iter(runs.values())).steps[0, 0])


def _every_run(function: Callable) -> Callable:
    """Maps a function of (run, pair) over pairs, and over the seeds of each."""
    return jax.vmap(jax.vmap(function, in_axes=(0, None)))


def _check_stack(split: SplitPair, *, needs_labels: bool) -> None:
    for name, pair in (("train", split.train), ("heldout", split.heldout)):
        if np.ndim(pair.primary.x) != 3 or np.ndim(pair.harmful.x) != 3:
            raise InputError(
                f"split.{name}: needs inputs of shape (pairs, rows, features), got {np.shape(pair.primary.x)} "
                f"and {np.shape(pair.harmful.x)}; stack the pairs with stack_pairs"
            )
        host = jax.tree.map(np.asarray, pair)
        for index in range(len(host.primary.x)):
            one = jax.tree.map(lambda leaf, index=index: leaf[index], host)
            check_pair(one, f"split.{name}[{index}]", needs_labels=needs_labels and name == "train")
