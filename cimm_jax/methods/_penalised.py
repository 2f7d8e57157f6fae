"""The gradient methods' common loop: the primary loss, plus weighted directions on theta, through any optax optimizer.

    omega <- omega - eta grad_omega L(omega, theta)
    theta <- theta - eta (grad_theta L(omega, theta) + sum_i lambda_i direction_i(theta))

A method of this family is a list of `Term`s (`algorithm1`, `ill_only`, `opt_kappa`, `imma`: one file each). The sums go
through the optimizer as if they were one gradient.
"""

import enum
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cimm_jax.methods.protocol import Info, Method
from cimm_jax.numerics import losses
from cimm_jax.numerics.hessian import covariance, probe_hessian
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import condition_number
from cimm_jax.tasks import TaskPair

__all__ = [
    "DEFAULT_LEARNING_RATE",
    "HessianFrom",
    "SmallBatch",
    "State",
    "Term",
    "View",
    "default_optimizer",
    "penalised",
]

DEFAULT_LEARNING_RATE = 3e-3


class HessianFrom(enum.Enum):
    """Which rows the probe Hessians of the regularizers are made of."""

    DATA = enum.auto()
    """All rows of each task, through K computed once: full rank whatever the batch size. The default."""
    BATCH = enum.auto()
    """The rows of the step's batch, as in the released code. With fewer rows than features the Hessian is rank-deficient,
    and sigma_min is that of the batch."""


class View(NamedTuple):
    """What a term may look at besides theta.

    Attributes:
      batch: rows of both tasks.
      k_primary: covariance of the whole primary task, shape (d, d); None under `HessianFrom.BATCH`, where terms work on
        the batch's features, whose Gram matrix is small.
      k_harmful: the same for the harmful task.
    """

    batch: TaskPair
    k_primary: jax.Array | None
    k_harmful: jax.Array | None


class SmallBatch(NamedTuple):
    """A direction on the Hessian of a batch of fewer rows than features: theta F^T R(F), F = X theta of shape (B, d).

    All terms of a method that have this form are computed in one pass, three products of theta's size whatever their number.

    Attributes:
      task: whose rows X are, "primary" or "harmful".
      rows: R, a function of F of F's shape.
    """

    task: Literal["primary", "harmful"]
    rows: Callable[[jax.Array], jax.Array]


class Term(NamedTuple):
    """One addition to the gradient of theta.

    Attributes:
      direction: (theta, view) -> shape of theta.
      weight: lambda; None balances it, so that at the first step the term is as long as the primary loss's gradient.
      small_batch: the same direction in the form that small batches allow, if it has one.
    """

    direction: Callable[[jax.Array, View], jax.Array]
    weight: float | None
    small_batch: SmallBatch | None = None


class State(NamedTuple):
    """State of a gradient method.

    Attributes:
      theta: extractor, shape (d, d).
      omega: primary head, shape (d,) or (d, C).
      optimizer: state of the optax optimizer.
      weights: lambda of each term, shape (terms,), balanced ones filled in.
      k_primary: covariance of the whole primary task, shape (d, d).
      k_harmful: covariance of the whole harmful task, shape (d, d).
    """

    theta: jax.Array
    omega: jax.Array
    optimizer: Any
    weights: jax.Array
    k_primary: jax.Array
    k_harmful: jax.Array


@lru_cache(maxsize=64)
def default_optimizer(learning_rate: float = DEFAULT_LEARNING_RATE) -> optax.GradientTransformation:
    """Momentum 0.9 and steps whose length is `learning_rate` times the parameter's (LARS without weight decay).

    It keeps the direction of the paper's update, so the theory of the regularizers applies, and does not depend on the
    scale of the data. Adam, which the released code uses, rescales every entry of theta by itself: that mixes the
    eigendirections that the regularizers move, and on House Prices it makes the primary task harder (README).
    """
    return optax.lars(learning_rate, trust_coefficient=1.0, momentum=0.9)


def penalised(
    terms: Sequence[Term],
    *,
    optimizer: optax.GradientTransformation | None,
    loss: losses.Loss,
    hessian: HessianFrom = HessianFrom.DATA,
    penalties: tuple[Penalty, ...],
) -> Method:
    """Builds a method from its terms.

    Theta starts at the identity, the reference of the relative immunization ratio; omega is drawn from N(0, 1/d).

    Args:
      terms: what is added to the primary loss's gradient of theta.
      optimizer: any optax optimizer; it also holds the learning rate. None: `default_optimizer()`.
      loss: primary loss, a function of (scores, targets).
      hessian: which rows the terms' covariances are made of.
      penalties: the same additions for trained blocks.
    """
    optimizer = optimizer or default_optimizer()

    def primary_loss(params, batch: TaskPair):
        theta, omega = params
        # theta omega first: with it, scores and gradients need no product of theta's size.
        return loss(product(batch.primary.x, product(theta, omega)), batch.primary.y)

    def view(state: State, batch: TaskPair) -> View:
        if hessian is HessianFrom.BATCH:
            return View(batch, None, None)
        return View(batch, state.k_primary, state.k_harmful)

    def init(key: jax.Array, pair: TaskPair) -> State:
        d = pair.primary.x.shape[-1]
        dtype = pair.primary.x.dtype
        theta = jnp.eye(d, dtype=dtype)
        omega = jax.random.normal(key, (d, *pair.primary.y.shape[1:]), dtype) / jnp.sqrt(d).astype(dtype)
        k_primary, k_harmful = covariance(pair.primary.x), covariance(pair.harmful.x)
        gradient = jax.grad(primary_loss)((theta, omega), pair)[0]
        start = State(theta, omega, optimizer.init((theta, omega)), jnp.zeros(len(terms), dtype), k_primary, k_harmful)
        weights = [_balance(gradient, term, theta, view(start, pair)) for term in terms]
        return start._replace(weights=jnp.asarray(weights, dtype))

    def step(state: State, batch: TaskPair) -> tuple[State, Info]:
        params = (state.theta, state.omega)
        value, (g_theta, g_omega) = jax.value_and_grad(primary_loss)(params, batch)
        g_theta = g_theta + _weighted_sum(terms, state.weights, state.theta, view(state, batch))
        updates, optimizer_state = optimizer.update((g_theta, g_omega), state.optimizer, params)
        theta, omega = cast(tuple[jax.Array, jax.Array], optax.apply_updates(params, updates))
        primary = condition_number(probe_hessian(state.theta, state.k_primary), symmetric=True)
        harmful = condition_number(probe_hessian(state.theta, state.k_harmful), symmetric=True)
        info = Info(value, primary.kappa, harmful.kappa, primary.floored | harmful.floored)
        return state._replace(theta=theta, omega=omega, optimizer=optimizer_state), info

    return Method(init, step, lambda state: state.theta, penalties=penalties)


def _weighted_sum(terms: Sequence[Term], weights: jax.Array, theta: jax.Array, view: View) -> jax.Array:
    """Sum of lambda_i direction_i(theta), in one pass where all terms allow it."""
    small = [term.small_batch for term in terms if term.small_batch is not None]
    parts = [getattr(view.batch, part.task).x for part in small]
    if view.k_primary is not None or len(small) < len(terms) or any(x.shape[0] >= x.shape[1] for x in parts):
        directions = [weight * term.direction(theta, view) for term, weight in zip(terms, weights, strict=True)]
        return cast(jax.Array, sum(directions))
    features = product(jnp.concatenate(parts), theta)
    each = jnp.split(features, np.cumsum([len(x) for x in parts])[:-1])
    rows = [weight * part.rows(f) for part, weight, f in zip(small, weights, each, strict=True)]
    return product(product(theta, features.mT), jnp.concatenate(rows))


def _balance(gradient: jax.Array, term: Term, theta: jax.Array, view: View) -> jax.Array | float:
    if term.weight is not None:
        return term.weight
    length = jnp.linalg.norm(term.direction(theta, view))
    return jnp.where(length > 0, jnp.linalg.norm(gradient) / jnp.where(length > 0, length, 1), 0)
