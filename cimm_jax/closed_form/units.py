"""A pair of tasks in units of its own: what is solved there is found without a square that leaves the range of numbers."""

from typing import NamedTuple

import jax

from cimm_jax.numerics.inputs import as_pair
from cimm_jax.numerics.scaling import normalised, scaled
from cimm_jax.tasks import Task, TaskPair

__all__ = ["OwnUnits", "own_units"]


class OwnUnits(NamedTuple):
    """A pair over powers of two.

    Attributes:
      pair: the tasks, inputs and targets as `normalised` makes them; inputs were multiplied by 2^-exponent.
      primary: the exponent of the primary task's inputs, int32, a scalar.
      harmful: the same of the harmful task's.
    """

    pair: TaskPair
    primary: jax.Array
    harmful: jax.Array

    def of_others(self, rows: TaskPair) -> TaskPair:
        """Other rows of the same tasks in these units; their targets stay as they are. Pure."""
        return TaskPair(
            rows.primary._replace(x=scaled(rows.primary.x, -self.primary)),
            rows.harmful._replace(x=scaled(rows.harmful.x, -self.harmful)),
        )


def own_units(pair: TaskPair) -> OwnUnits:
    """The pair in units of its own. Pure.

    Args:
      pair: inputs of shape (N, d), targets of shape (N,) or (N, C), as `inputs.as_array` takes them.

    Raises:
      InputError: as `inputs.as_array`.
    """
    pair = as_pair(pair)
    inputs = [normalised(task.x) for task in pair]
    tasks = (
        Task(x.values, None if task.y is None else normalised(task.y, tuple(range(-task.y.ndim, 0))).values)
        for x, task in zip(inputs, pair, strict=True)
    )
    return OwnUnits(TaskPair(*tasks), *(x.exponent for x in inputs))
