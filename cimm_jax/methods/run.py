"""Runs a method: one pair with `immunize`, or, through `start` and `advance`, anything that `vmap` can stack."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.errors import InputError
from cimm_jax.methods.protocol import Info, Method
from cimm_jax.tasks import Task, TaskPair, check_pair

__all__ = [
    "PROGRESS_CALLS",
    "Immunized",
    "Run",
    "advance",
    "advance_on",
    "check_batch_size",
    "check_steps",
    "draw_rows",
    "immunize",
    "start",
]

PROGRESS_CALLS = 20


class Immunized(NamedTuple):
    """The result of a run.

    Attributes:
      theta: the immunized extractor, shape (d, d).
      history: `Info` of every recorded step, each field of shape (records,).
    """

    theta: jax.Array
    history: Info


class Run(NamedTuple):
    """A run under way: the method's state, the key its batches are drawn with, and how many steps it has made."""

    state: Any
    key: jax.Array
    steps: jax.Array


def start(method: Method, key: jax.Array, pair: TaskPair) -> Run:
    """Initialises the method. Pure; `vmap` over keys and stacked pairs."""
    init_key, batch_key = jax.random.split(key)
    return Run(method.init(init_key, pair), batch_key, jnp.zeros((), jnp.int32))


def advance(
    method: Method, run: Run, pair: TaskPair, *, steps: int | jax.Array, batch_size: int | None = None
) -> tuple[Run, Info]:
    """Makes `steps` steps and returns the last one's `Info`. Pure; the infos of the others are never computed.

    Args:
      method: the method.
      run: from `start` or a former `advance`; splitting a run into several calls does not change it.
      pair: the whole training pair.
      steps: how many, at least 1.
      batch_size: rows of each task per step, drawn with replacement; None gives every step the whole pair.
    """

    def batch(key: jax.Array) -> TaskPair:
        if batch_size is None:
            return pair
        drawn = draw_rows(key, (pair.primary.x.shape[0], pair.harmful.x.shape[0]), batch_size)
        return TaskPair(*(_rows(task, chosen) for task, chosen in zip(pair, drawn, strict=True)))

    return advance_on(method, run, batch, steps=steps)


def advance_on(
    method: Method, run: Run, batch: Callable[[jax.Array], TaskPair], *, steps: int | jax.Array
) -> tuple[Run, Info]:
    """`advance` with batches from anywhere: `batch` is given the key of each step."""

    def step(run: Run) -> tuple[Run, Info]:
        state, info = method.step(run.state, batch(jax.random.fold_in(run.key, run.steps)))
        return run._replace(state=state, steps=run.steps + 1), info

    run = jax.lax.fori_loop(0, steps - 1, lambda _, run: step(run)[0], run)
    return step(run)


def draw_rows(key: jax.Array, rows: tuple[int, int], batch_size: int) -> tuple[jax.Array, jax.Array]:
    """Numbers of the rows in a step's batch, with replacement, for a primary and a harmful task of so many rows."""
    keys = jax.random.split(key)
    primary, harmful = (jax.random.randint(key, (batch_size,), 0, count) for key, count in zip(keys, rows, strict=True))
    return primary, harmful


def immunize(
    method: Method,
    pair: TaskPair,
    *,
    key: jax.Array | None = None,
    steps: int = 300,
    batch_size: int | None = None,
    record_every: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Immunized:
    """Immunizes a linear extractor against the pair's harmful task.

    Runs in the dtype of the pair: give float64 arrays under `jax.enable_x64(True)` where condition numbers matter.

    Args:
      method: for example `methods.algorithm1()`.
      pair: training data; both tasks with targets, unless the method does without.
      key: seeds the primary head and the batches; None is `jax.random.key(0)`.
      steps: steps to make, at least 1; a closed-form method makes one.
      batch_size: rows of each task per step, drawn with replacement; None uses all rows at every step.
      record_every: how many steps lie between two records of the history; the condition numbers of the others are not
        computed. Must divide `steps`.
      progress: called with the number of steps made, up to 20 times; a last, shorter part compiles once more.

    Raises:
      InputError: if the pair is unusable or a number is out of range.
    """
    check_pair(pair, needs_labels=method.needs_targets)
    check_steps(steps, record_every)
    check_batch_size(batch_size, pair)
    key = jax.random.key(0) if key is None else key
    pair = jax.tree.map(jnp.asarray, pair)
    records = 1 if method.closed_form else steps // record_every
    record_every = 1 if method.closed_form else record_every
    length = records if progress is None else -(-records // PROGRESS_CALLS)
    run, parts, made = _start(method, key, pair), [], 0
    while made < records:
        count = min(length, records - made)
        run, infos = _record(method, run, pair, count, record_every, batch_size)
        parts.append(infos)
        made += count
        if progress is not None:
            jax.block_until_ready(infos)
            progress(made * record_every)
    return Immunized(method.extractor(run.state), jax.tree.map(lambda *parts: jnp.concatenate(parts), *parts))


def check_steps(steps: int, record_every: int = 1) -> None:
    """Raises `InputError` unless both are positive and the second divides the first."""
    if steps < 1:
        raise InputError(f"steps: needs at least 1, got {steps}")
    if record_every < 1 or steps % record_every:
        raise InputError(f"record_every: needs a divisor of steps={steps}, got {record_every}")


def check_batch_size(batch_size: int | None, pair: TaskPair) -> None:
    """Raises `InputError` if the batch is not between 1 and the rows of the smaller task."""
    rows = min(pair.primary.x.shape[-2], pair.harmful.x.shape[-2])
    if batch_size is not None and not 1 <= batch_size <= rows:
        raise InputError(f"batch_size: needs 1 to {rows} (the rows of the smaller task), got {batch_size}")


@partial(jax.jit, static_argnames="method")
def _start(method, key, pair):
    return start(method, key, pair)


@partial(jax.jit, static_argnames=("method", "records", "record_every", "batch_size"), donate_argnames="run")
def _record(method, run, pair, records, record_every, batch_size):
    def record(run, _):
        return advance(method, run, pair, steps=record_every, batch_size=batch_size)

    return jax.lax.scan(record, run, length=records)


def _rows(task: Task, chosen: jax.Array) -> Task:
    return jax.tree.map(lambda leaf: leaf[chosen], task)
