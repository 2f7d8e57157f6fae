"""An attack's steps, and what is recorded of them; a run that has diverged keeps what it had before."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cimm_jax.attacks.protocol import Trace

DIVERGED = 1e3
"""An attack whose loss exceeds this many times that of its first probe and of a zero probe has diverged."""


def record_steps(
    step: Callable[[Any], tuple[Any, jax.Array]],
    judge: Callable[[Any], Trace],
    state: Any,
    at_zero: Trace,
    recorded: tuple[int, ...],
) -> Trace:
    """A trace of shape (records,).

    Args:
      step: state -> (state, value), value the loss that the step saw before it moved.
      judge: state -> a trace of scalars.
      state: to start from.
      at_zero: what knowing nothing gets, reported of an attack that diverges before its first record. Where its `norm_ratio`
        is NaN, the loss has none.
      recorded: ascending numbers of steps.
    """

    def record(carry, count):
        state, before, limit = carry

        def advance(_, carry):
            state, diverged = carry
            state, value = step(state)
            return state, diverged | ~(value <= limit)

        state, diverged = jax.lax.fori_loop(0, count, advance, (state, before.diverged))
        now = judge(state)
        starts = count == 0
        limit = jnp.where(starts, DIVERGED * jnp.maximum(now.loss, at_zero.loss), limit)
        finite = jnp.isfinite(now.heldout_loss) & (jnp.isfinite(now.norm_ratio) | jnp.isnan(at_zero.norm_ratio))
        diverged |= ~((now.loss <= limit) & finite)
        after = jax.tree.map(lambda old, new: jnp.where(diverged | starts, old, new), before, now)
        after = after._replace(diverged=diverged)
        return (state, after, limit), after

    # The start is judged inside the loop: outside, XLA (jaxlib 0.10.2, CPU) sees that a first probe is zero everywhere, and in
    # some compilations its softmax loss becomes NaN.
    counts = jnp.diff(jnp.asarray((0, 0, *recorded), jnp.int32))
    _, trace = jax.lax.scan(record, (state, at_zero, jnp.zeros_like(at_zero.loss)), counts)
    return jax.tree.map(lambda values: values[1:], trace)
