"""The steps of a method's run, as pure functions: anything that `vmap` can stack goes through them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.methods.protocol import Info, Method
from cimm_jax.tasks import Task, TaskPair

__all__ = ["Run", "advance", "advance_on", "draw_rows", "start"]


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


def _rows(task: Task, chosen: jax.Array) -> Task:
    return jax.tree.map(lambda leaf: leaf[chosen], task)
