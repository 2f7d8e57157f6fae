"""Many pairs, many seeds, many methods at once: `vmap` over pairs and seeds, all methods inside one `jit`.

Where not all pairs fit into memory, they are worked on in blocks of equal size, one after another. Beyond rounding, the result
does not depend on the size of the blocks, nor on the number of devices that a block is spread over (`numerics.spreading`).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cimm_jax.closed_form.limits import Share, pair_pencil, seen_in_range, share_of_limit
from cimm_jax.errors import InputError
from cimm_jax.measures.definition import Judgement, judge
from cimm_jax.measures.extraction import extract
from cimm_jax.measures.ratios import ImmunizationRatio, immunization_ratio
from cimm_jax.methods.memory import USED_AT_MOST, free_bytes
from cimm_jax.methods.pairs import Pairs, check_pairs, on_device, pair_at, pairs_of_stack, rows_at
from cimm_jax.methods.protocol import Method
from cimm_jax.methods.run import check_batch_size, check_key, check_method, check_steps
from cimm_jax.methods.stepping import Run, advance_on, draw_rows, start
from cimm_jax.numerics.meshes import on_host, on_one_device
from cimm_jax.numerics.spectra import ReleasedCode
from cimm_jax.numerics.spreading import agreed, along, everywhere, mesh_in_use, multiple_of_devices
from cimm_jax.tasks import SplitPair, TaskPair

Runs = dict[str, Run]
"""One run per method; every leaf has the leading axes (pairs at once, seeds)."""

WORKSPACES = 4
"""States of a run that a step needs room for: the state, its gradient, its update, and what they are made of."""


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


class Progress(NamedTuple):
    """How far a sweep has come: what a checkpoint keeps.

    Attributes:
      measured: by method; only the first `finished` pairs are filled in.
      finished: how many pairs are measured, int32.
      runs: of the block of pairs under way.
    """

    measured: dict[str, Measured]
    finished: Any
    runs: Runs

    @property
    def at_once(self) -> int:
        """Pairs of the block under way."""
        return len(next(iter(self.runs.values())).steps)

    def steps_made(self, steps: int) -> int:
        """Steps of all pairs together, of pairs times `steps`."""
        under_way = next(iter(self.runs.values())).steps
        pairs = next(iter(self.measured.values())).share.limit.shape[0]
        block = min(self.at_once, pairs - int(self.finished))
        return int(self.finished) * steps + block * int(under_way[0, 0])


def sweep(
    methods: Mapping[str, Method],
    split: SplitPair | Pairs,
    *,
    keys: jax.Array,
    steps: int = 150,
    batch_size: int | None = None,
    chunks: int = 10,
    pairs_at_once: int | None = None,
    progress: Progress | None = None,
    checkpoint: Callable[[Progress], None] | None = None,
) -> dict[str, Measured]:
    """Immunizes every pair with every method and every seed, and measures.

    Three functions are compiled (start, advance, measure), each once, however many pairs, seeds, methods and steps. Within
    `spreading.spread_over`, each device has pairs of its own.

    Args:
      methods: the methods by name.
      split: stacked pairs (`stack_pairs`), every leaf with a leading axis of pairs, or `Pairs`, which need no copy of a task
        for every pair; all tasks with targets.
      keys: one per seed, shape (seeds,).
      steps: steps of each method.
      batch_size: rows per step, or None for all.
      chunks: how many calls the steps of a block are divided into, cut to `steps`; between calls the host sees progress.
      pairs_at_once: how many pairs make a block; None is as many as memory allows. Over a mesh, the next multiple of its
        devices; the last pair fills up the last block.
      progress: where an interrupted sweep had come to, as its `checkpoint` was last given it; None starts anew. Its block is
        finished first, cut to `pairs_at_once`; without that, the others are made as large.
      checkpoint: called with the progress after each chunk.

    Raises:
      InputError: if there is no method or no seed, the pairs are not stacked or lack targets, or a number is out of range.
    """
    for name, method in methods.items():
        check_method(method, f"methods[{name!r}]")
    if not isinstance(split, Pairs | SplitPair):
        raise InputError(f"split: needs a SplitPair of stacked tasks, got {type(split).__name__}; see stack_pairs")
    pairs = split if isinstance(split, Pairs) else pairs_of_stack(split)
    _check(methods, pairs, keys, steps, batch_size, pairs_at_once)
    items, total, pairs, mesh = tuple(methods.items()), len(pairs.primary_of), on_device(pairs), mesh_in_use()
    at_once = multiple_of_devices(agreed(block_size(methods, pairs, keys, batch_size, pairs_at_once)), mesh)
    pairs, keys = everywhere((pairs, keys), mesh)
    if progress is None:
        progress = _begin(items, keys, pairs, at_once, mesh)
    elif progress.at_once > at_once:
        progress = progress._replace(runs=jax.tree.map(lambda leaf: leaf[:at_once], progress.runs))
    elif pairs_at_once is None:
        at_once = progress.at_once  # blocks of another size would be rounded differently
    length = -(-steps // max(1, min(chunks, steps)))
    while progress.finished < total:
        numbers, runs = _block(progress, total), everywhere(progress.runs, mesh)
        while (made := int(next(iter(progress.runs.values())).steps[0, 0])) < steps:
            # The last chunk may be shorter; a traced trip count keeps it from being compiled again.
            count = np.asarray(min(length, steps - made))
            runs = _advance(items, runs, pairs, numbers, count, batch_size, mesh=mesh)
            progress = progress._replace(runs=runs if mesh is None else jax.tree.map(on_one_device, runs))
            if checkpoint is not None:
                checkpoint(progress)
        progress = _filled_in(progress, _measure(items, runs, pairs, numbers, mesh=mesh), total)
        if progress.finished < total:
            progress, runs = progress._replace(runs={}), None  # their memory, before the next ones take theirs
            progress = progress._replace(runs=_start(items, keys, pairs, _block(progress, total, at_once), mesh=mesh))
    measured = jax.tree.map(jnp.asarray, progress.measured)
    return {name: measured[name] for name in methods}  # jit sorts the keys of a dict


def block_size(
    methods: Mapping[str, Method],
    pairs: Pairs,
    keys: jax.Array,
    batch_size: int | None,
    pairs_at_once: int | None = None,
) -> int:
    """How many pairs make a block: what was asked for, or what memory allows, evened out so that all blocks are alike."""
    total = len(pairs.primary_of)
    if pairs_at_once is None:
        runs = jax.eval_shape(
            partial(_start, tuple(methods.items()), mesh=None), keys, pairs, np.zeros(total, np.int32)
        )
        x_primary, x_harmful = pairs.primary.train.x, pairs.harmful.train.x
        rows = x_primary.shape[1] + x_harmful.shape[1] if batch_size is None else 2 * batch_size
        inputs = rows * x_primary.shape[2] * x_primary.dtype.itemsize
        needed = WORKSPACES * _bytes(runs) / total + inputs * (1 + 2 * len(keys) * len(methods))
        pairs_at_once = max(1, int(USED_AT_MOST * free_bytes() / needed))
    return -(-total // -(-total // pairs_at_once))


def abstract_progress(
    methods: Mapping[str, Method], split: SplitPair | Pairs, keys: jax.Array, at_once: int
) -> Progress:
    """Shapes and dtypes of the progress of such a sweep, without computing it: what a checkpoint is restored into.

    Args:
      methods: as in `sweep`.
      split: as in `sweep`.
      keys: as in `sweep`.
      at_once: how many pairs its block has.
    """
    pairs = split if isinstance(split, Pairs) else pairs_of_stack(split)
    items, total = tuple(methods.items()), len(pairs.primary_of)
    numbers = np.zeros(at_once, np.int32)
    runs = jax.eval_shape(partial(_start, items, mesh=None), keys, pairs, numbers)
    block = jax.eval_shape(partial(_measure, items, mesh=None), runs, pairs, numbers)
    measured = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((total, *leaf.shape[1:]), leaf.dtype), block)
    return Progress(measured, jax.ShapeDtypeStruct((), np.int32), runs)


def _begin(items, keys: jax.Array, pairs: Pairs, at_once: int, mesh: Mesh | None) -> Progress:
    blank = abstract_progress(dict(items), pairs, keys, at_once).measured
    measured = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), blank)
    numbers = np.minimum(np.arange(at_once, dtype=np.int32), len(pairs.primary_of) - 1)
    return Progress(measured, np.int32(0), _start(items, keys, pairs, numbers, mesh=mesh))


def _filled_in(progress: Progress, block: dict[str, Measured], total: int) -> Progress:
    """With the block's measurements in their place."""
    first = int(progress.finished)
    last = min(first + progress.at_once, total)

    def fill(whole, part):
        whole = np.array(whole)
        whole[first:last] = on_host(part)[: last - first]
        return whole

    return progress._replace(measured=jax.tree.map(fill, progress.measured, block), finished=np.int32(last))


def _block(progress: Progress, total: int, at_once: int | None = None) -> np.ndarray:
    """Numbers of the pairs under way; the last block repeats the last pair, so that it need not be compiled again."""
    count = progress.at_once if at_once is None else at_once
    return np.minimum(np.arange(count, dtype=np.int32) + progress.finished, total - 1).astype(np.int32)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


@partial(jax.jit, static_argnums=0, static_argnames="mesh")
def _start(items, keys: jax.Array, pairs: Pairs, numbers: jax.Array, *, mesh: Mesh | None):
    def one(number, keys: jax.Array, pairs: Pairs) -> Runs:
        pair = pair_at(pairs, number).train
        return {name: jax.vmap(partial(start, method, pair=pair))(keys) for name, method in items}

    def block(numbers, common):
        # One after another: whole tasks need room.
        return jax.lax.map(lambda number: one(number, *common), numbers)

    return along(block, numbers, (keys, pairs), mesh)


@partial(jax.jit, static_argnums=(0, 5), static_argnames="mesh", donate_argnums=1)
def _advance(items, runs: Runs, pairs: Pairs, numbers: jax.Array, steps, batch_size, *, mesh: Mesh | None):
    return along(partial(_advanced, items, batch_size), (runs, numbers), (pairs, steps), mesh)


def _advanced(items, batch_size, batched: tuple[Runs, jax.Array], common: tuple[Pairs, jax.Array]) -> Runs:
    (runs, numbers), (pairs, steps) = batched, common
    rows = (pairs.primary.train.x.shape[1], pairs.harmful.train.x.shape[1])

    def one(method: Method, number, run: Run) -> Run:
        whole = pair_at(pairs, number).train if batch_size is None else None

        def batch(key) -> TaskPair:
            return whole or rows_at(pairs, number, draw_rows(key, rows, batch_size))

        return advance_on(method, run, batch, steps=steps)[0]

    return {
        name: jax.vmap(jax.vmap(partial(one, method), in_axes=(None, 0)))(numbers, runs[name]) for name, method in items
    }


@partial(jax.jit, static_argnums=0, static_argnames="mesh")
def _measure(items, runs: Runs, pairs: Pairs, numbers: jax.Array, *, mesh: Mesh | None):
    def one(at, pairs: Pairs) -> dict[str, Measured]:
        number, runs = at
        split = pair_at(pairs, number)
        seen = seen_in_range(pair_pencil(split.train))

        def measured(method: Method, run: Run) -> Measured:
            theta = method.extractor(run.state)
            train = extract(theta, split.train)
            return Measured(
                judge(train),
                judge(extract(theta, split.heldout), fit_on=train),
                immunization_ratio(train, ReleasedCode()),
                share_of_limit(theta, seen),
            )

        return {name: jax.vmap(partial(measured, method))(runs[name]) for name, method in items}

    def block(batched, pairs: Pairs):
        return jax.lax.map(lambda at: one(at, pairs), batched)

    return along(block, (numbers, runs), pairs, mesh)


def _check(methods: Mapping[str, Method], pairs: Pairs, keys, steps: int, batch_size, pairs_at_once) -> None:
    if not methods:
        raise InputError("methods: is empty; give at least one method")
    check_pairs(pairs, "split", needs_labels=any(method.needs_targets for method in methods.values()))
    for check in [method.check for method in methods.values() if method.check is not None]:
        for number in range(len(pairs.primary_of)):
            check(pair_at(pairs, jnp.asarray(number)).train)
    check_steps(steps)
    check_batch_size(batch_size, TaskPair(pairs.primary.train, pairs.harmful.train))
    if np.ndim(keys) != 1 or not len(keys):
        raise InputError(f"keys: needs shape (seeds,) with at least one seed, got {np.shape(keys)}")
    check_key(keys[0], "keys")
    if pairs_at_once is not None and pairs_at_once < 1:
        raise InputError(
            f"pairs_at_once: needs at least 1, got {pairs_at_once}; leave it out to use what memory there is"
        )
