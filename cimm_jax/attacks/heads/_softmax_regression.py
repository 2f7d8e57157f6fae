"""A linear probe of class probabilities with an intercept, as well fitted as its ridge allows."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.attacks._recording import record_steps
from cimm_jax.attacks.heads._features import standardised_target
from cimm_jax.attacks.heads._judging import class_loss, judged, nothing_learned
from cimm_jax.attacks.problem import CURVATURE_BOUND
from cimm_jax.attacks.protocol import Attack, Target, Trace, check_records
from cimm_jax.numerics.decompositions import eigh
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import rounding_tolerance


class _Probe(NamedTuple):
    """Weights (d, C) in the features' principal directions, and an intercept (1, C)."""

    weights: jax.Array
    intercept: jax.Array


class _State(NamedTuple):
    """Nesterov's method: where it is, where it looks next, and its sequence t."""

    probe: _Probe
    ahead: _Probe
    sequence: jax.Array


def softmax_regression(*, steps: int = 100, record_at: Sequence[int] | None = None) -> Attack:
    """Softmax regression on standardised features with an intercept; the rate is the ridge. The key is not used.

    Minimises mean cross-entropy + rate / 2 |W|^2 (logistic loss for a single column). The Hessian of the first part is at most
    b X^T X / N for every class, b = 1/2, or 1/4 of a single one (Boehning 1992). So steps of the gradient times
    (b X^T X / N + rate)^-1 need no search; Nesterov's method speeds them up, and starts again where it overshoots.

    Args:
      steps: at least 1.
      record_at: ascending numbers of steps to record, none beyond `steps`; None spaces 40 of them evenly in log.

    Raises:
      InputError: if a number is out of range.
    """
    recorded = check_records(record_at, steps)

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        del key
        target = standardised_target(target)
        x, y = target.fit
        loss = class_loss(y.shape[1])
        bound = CURVATURE_BOUND[loss]
        values, vectors = eigh(product(x.T, x) / len(x))
        floor = rounding_tolerance(max(x.shape), x.dtype) * values[-1]
        inverse = _Probe(
            (1 / (bound * jnp.maximum(values, floor) + rate))[:, None], jnp.full((1, 1), 1 / bound, x.dtype)
        )
        rotated = product(x, vectors)

        def objective(probe: _Probe) -> tuple[jax.Array, jax.Array]:
            value = loss(product(rotated, probe.weights) + probe.intercept, y)
            return value + rate / 2 * jnp.sum(probe.weights**2), value

        def step(state: _State) -> tuple[_State, jax.Array]:
            gradient, value = jax.grad(objective, has_aux=True)(state.ahead)
            return _moved(state, gradient, inverse), value

        def judge(state: _State) -> Trace:
            weights = product(vectors, state.probe.weights)
            fitted, heldout = (
                product(task.x, weights) + state.probe.intercept for task in (target.fit, target.heldout)
            )
            return judged(loss, fitted, heldout, target)

        zero = _Probe(jnp.zeros((x.shape[1], y.shape[1]), x.dtype), jnp.zeros((1, y.shape[1]), x.dtype))
        start = _State(zero, zero, jnp.ones((), x.dtype))
        return record_steps(step, judge, start, nothing_learned(loss, target), recorded)

    return attack


def _moved(state: _State, gradient: _Probe, inverse: _Probe) -> _State:
    """One step of the accelerated method; the sequence starts again where the step went against the gradient it saw."""
    probe = jax.tree.map(lambda at, g, scale: at - scale * g, state.ahead, gradient, inverse)
    move = jax.tree.map(jnp.subtract, probe, state.probe)
    uphill = sum(jnp.vdot(g, m) for g, m in zip(gradient, move, strict=True)) > 0
    sequence = (1 + jnp.sqrt(1 + 4 * state.sequence**2)) / 2
    pace = jnp.where(uphill, 0, (state.sequence - 1) / sequence)
    ahead = jax.tree.map(lambda at, m: at + pace * m, probe, move)
    return _State(probe, ahead, jnp.where(uphill, 1, sequence))
