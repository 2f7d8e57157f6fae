"""A map for blocks to learn: the features that they are trained to give, and the head that they begin with."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.heads import Head
from cimm_jax.closed_form.wanted_features import Goal, goal_of
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.numerics.products import product
from cimm_jax.tasks import Task, TaskPair

__all__ = ["Aim", "to_learn"]

WEIGHT = 1.0
"""Of the mean squared error in units of the wanted deviation, beside a primary loss of 1."""


class Aim(NamedTuple):
    """What blocks are trained for by `networks.training.train_tail`.

    Attributes:
      penalties: a method's, or the distance from features behind a map.
      targets: features wanted of the primary and the harmful training rows, float32 of shape (N, d) each; None where no map is
        learned.
      head: the one on wanted features whose outputs come nearest to the published ones; None is the published one.
    """

    penalties: tuple[Penalty, ...]
    targets: tuple[np.ndarray, np.ndarray] | None = None
    head: Head | None = None


def to_learn(theta: jax.Array | np.ndarray, primary: np.ndarray, harmful: np.ndarray, head: Head) -> Aim:
    """What makes blocks learn a map (`closed_form.wanted_features`).

    Args:
      theta: shape (d, d), of any rank.
      primary: published features of the primary training rows, shape (N, d).
      harmful: of the harmful ones, shape (M, d).
      head: the published one.
    """
    published = [jnp.asarray(x, jnp.float64) for x in (primary, harmful)]
    goal = goal_of(jnp.asarray(theta), *published)
    targets = tuple(np.asarray(goal.features(x), np.float32) for x in published)
    mapped = head.refitted(np.asarray(goal.theta), primary)
    begun = mapped._replace(bias=mapped.bias - np.asarray(goal.shift, np.float32) @ mapped.kernel)
    return Aim((Penalty(_distance(goal), WEIGHT),), (targets[0], targets[1]), begun)


def _distance(goal: Goal) -> Callable[[TaskPair], jax.Array]:
    units = [np.asarray(of, np.float32) for of in goal.units]

    def distance(batch: TaskPair) -> jax.Array:
        """Mean squared error of both tasks in the goal's units."""
        return sum(map(_error, batch, units), jnp.zeros((), units[0].dtype)) / len(units)

    return distance


def _error(task: Task, units: np.ndarray) -> jax.Array:
    return jnp.mean(jnp.sum(jnp.square(product(task.x - task.y, jnp.asarray(units))), axis=1))
