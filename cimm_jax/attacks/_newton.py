"""Newton's method on the probe: what an attacker does who can afford a d x d system."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cimm_jax.attacks._linear_probe import check_loss, measure
from cimm_jax.attacks.problem import column_targets, make_problem
from cimm_jax.attacks.protocol import Attack, Target, Trace, check_records
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses
from cimm_jax.numerics.decompositions import eigh
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import rounding_tolerance

ITERATIONS = 12
"""Steps really made for the logistic loss; on separable data each adds a constant to the margins, without end."""

_HALVINGS = tuple(0.5**power for power in range(8))


def newton(*, steps: int = 1000, loss: losses.Loss = losses.squared, record_at: Sequence[int] | None = None) -> Attack:
    """An attacker who takes Newton steps; the rate is not used. The squared loss is done after one.

    The Hessian is that of the whitened features U of F = U S V^T, which no linear map of the features changes. Logistic
    steps are halved until the loss falls, and end after 12.

    Raises:
      InputError: if the loss is softmax (its Hessian couples the classes) or a number is out of range.
    """
    recorded = check_records(record_at, steps)
    check_loss(loss)
    if loss is losses.softmax:
        raise InputError("loss: newton takes losses.squared and losses.logistic; use lbfgs for softmax")

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        del key, rate
        target = column_targets(target)
        problem = make_problem(target, loss, rows=True, axes=True)
        if loss is losses.squared:
            at_end = measure(problem, problem.best, target, loss)
            return jax.tree.map(lambda value: jnp.broadcast_to(value, (len(recorded),)), at_end)
        u, sigma, vt = target.decomposed()
        counts = sigma > rounding_tolerance(max(problem.x.shape), sigma.dtype) * sigma[0]
        u = jnp.where(counts[None, :], u, 0)
        unwhiten = vt.T * jnp.where(counts, 1 / jnp.where(counts, sigma, 1), 0)[None, :]

        def step(coefficients, _):
            moved = jnp.stack([_newton_step(u, y, c) for y, c in zip(problem.y.T, coefficients, strict=True)])
            return moved, measure(problem, product(unwhiten, moved.T), target, loss)

        start = jnp.zeros((problem.y.shape[1], len(sigma)), sigma.dtype)
        made = jax.lax.scan(step, start, length=min(ITERATIONS, steps))[1]
        at = jnp.minimum(jnp.asarray(recorded, jnp.int32), min(ITERATIONS, steps)) - 1
        return jax.tree.map(lambda values: values[at], made)

    return attack


def _newton_step(u: jax.Array, y: jax.Array, c: jax.Array) -> jax.Array:
    """One step on the logistic loss of scores u c, halved until the loss falls; c stays if no halving helps."""
    chance = jax.nn.sigmoid(product(u, c))
    gradient = product(u.T, chance - (y + 1) / 2)
    values, vectors = eigh(product(u.T, u * (chance * (1 - chance))[:, None]))
    counts = values > rounding_tolerance(len(values), values.dtype) * values[-1]
    inverse = jnp.where(counts, 1 / jnp.where(counts, values, 1), 0)
    direction = product(vectors, inverse * product(vectors.T, gradient))
    lengths = jnp.asarray((0.0, *_HALVINGS), c.dtype)
    tried = c[None, :] - lengths[:, None] * direction[None, :]
    reached = jax.vmap(lambda c: losses.logistic(product(u, c), y))(tried)
    return tried[jnp.nanargmin(reached)]
