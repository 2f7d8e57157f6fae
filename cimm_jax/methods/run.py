"""Runs a method on one pair."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.methods._diverged import diverged
from cimm_jax.methods.protocol import Info, Method
from cimm_jax.methods.stepping import advance, start
from cimm_jax.numerics.inputs import as_pair
from cimm_jax.tasks import TaskPair, check_pair

__all__ = ["PROGRESS_CALLS", "Immunized", "check_batch_size", "check_key", "check_method", "check_steps", "immunize"]

PROGRESS_CALLS = 20


class Immunized(NamedTuple):
    """The result of a run.

    Attributes:
      theta: the immunized extractor, shape (d, d).
      history: `Info` of every recorded step, each field of shape (records,).
    """

    theta: jax.Array
    history: Info


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
      InputError: if the pair is unusable, a number is out of range, theta does not stay finite, with the step, or it is zero.
    """
    check_method(method)
    pair = as_pair(check_pair(pair, needs_labels=method.needs_targets))
    if method.check is not None:
        method.check(pair)
    check_steps(steps, record_every)
    check_batch_size(batch_size, pair)
    key = jax.random.key(0) if key is None else key
    check_key(key)
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
    theta = method.extractor(run.state)
    if not jnp.isfinite(theta).all():
        raise diverged(method, _start(method, key, pair), pair, records * record_every, batch_size)
    if not theta.any():
        raise InputError(
            "pair: theta is zero, since both tasks need the same directions; give other tasks, or a budget"
        )
    return Immunized(theta, jax.tree.map(lambda *parts: jnp.concatenate(parts), *parts))


def check_steps(steps: int, record_every: int = 1) -> None:
    """Raises `InputError` unless both are positive and the second divides the first."""
    if steps < 1:
        raise InputError(f"steps: needs at least 1, got {steps}")
    if record_every < 1 or steps % record_every:
        raise InputError(f"record_every: needs a divisor of steps={steps}, got {record_every}")


def check_method(method: Method, argument: str = "method", called: str = "it") -> None:
    """Raises `InputError` unless it is a method that makes maps: not a name, nor a function that was not called.

    Args:
      method: what was given.
      argument: what messages call the argument.
      called: the method's name, for people who gave one.
    """
    if isinstance(method, Method):
        if not method.makes_maps:
            raise InputError(
                f"{argument}: {called} trains blocks of a network and makes no map; use cimm immunize --model ... --train-from"
            )
        return
    if isinstance(method, str):
        raise InputError(f"{argument}: needs a Method, got the name {method!r}; call methods.by_name({method!r})()")
    if callable(method):
        name = getattr(method, "__name__", type(method).__name__)
        raise InputError(f"{argument}: needs a Method, got a function that gives one; call it, {name}(...)")
    raise InputError(f"{argument}: needs a Method, got {type(method).__name__}; such as methods.pencil()")


def check_key(key: jax.Array, argument: str = "key") -> None:
    """Raises `InputError` unless it is one random key; a legacy one, an array of uint32, will do."""
    if isinstance(key, jax.Array):
        typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        if key.ndim == (0 if typed else 1) and (typed or key.dtype == jnp.uint32):
            return
    raise InputError(
        f"{argument}: needs one key such as jax.random.key(0), got {type(key).__name__} of shape {np.shape(key)}"
    )


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
