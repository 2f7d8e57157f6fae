"""A method whose first step reaches the answer: what the closed forms share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.methods.protocol import Info, Method
from cimm_jax.numerics.hessian import covariance, probe_hessian
from cimm_jax.numerics.spectra import condition_number
from cimm_jax.tasks import TaskPair

__all__ = ["RECIPE", "State", "one_step"]


RECIPE = (
    ("steps", 400),
    ("batch_rows", 160),
    ("harmful_rows", 384),
    ("learning_rate", 0.05),
    ("warmup", 0.05),
    ("distillation", 8.0),
    ("longest_gradient", 1.0),
)
"""Settings of `networks.training.TrainingSettings` with which blocks learn the solution (docs/results.md)."""


class State(NamedTuple):
    """State of a closed form.

    Attributes:
      theta: extractor, shape (d, d): the identity before the one step, the solution after it.
      solution: shape (d, d).
      k_primary: covariance of the whole primary task, shape (d, d).
      k_harmful: covariance of the whole harmful task, shape (d, d).
    """

    theta: jax.Array
    solution: jax.Array
    k_primary: jax.Array
    k_harmful: jax.Array


def one_step(
    solve: Callable[[jax.Array, TaskPair], jax.Array],
    *,
    needs_targets: bool,
    check: Callable[[TaskPair], None] | None = None,
) -> Method:
    """The method that goes where `solve` says.

    Args:
      solve: (key, pair) -> theta of shape (d, d), pure.
      needs_targets: as in `Method`.
      check: as in `Method`.
    """

    def init(key: jax.Array, pair: TaskPair) -> State:
        solution = solve(key, pair)
        return State(jnp.eye(*solution.shape, dtype=solution.dtype), solution, *(covariance(task.x) for task in pair))

    def step(state: State, batch: TaskPair) -> tuple[State, Info]:
        primary = condition_number(probe_hessian(state.theta, state.k_primary), symmetric=True)
        harmful = condition_number(probe_hessian(state.theta, state.k_harmful), symmetric=True)
        loss = jnp.full((), jnp.nan, batch.primary.x.dtype)
        info = Info(loss, primary.kappa, harmful.kappa, primary.floored | harmful.floored)
        return state._replace(theta=state.solution), info

    return Method(
        init,
        step,
        lambda state: state.theta,
        closed_form=True,
        needs_targets=needs_targets,
        recipe=RECIPE,
        check=check,
    )
