"""How fast a probe learns before and after: the excess loss that gradient descent with exact line search leaves."""

from typing import NamedTuple

import jax
import numpy as np

from cimm_jax.measures.extraction import Extraction
from cimm_jax.numerics.convergence import excess_curve
from cimm_jax.tasks import Task

__all__ = ["CURVE_STEPS", "ExcessCurves", "TaskCurves", "excess_curves", "steps_to_half"]

CURVE_STEPS = 1000


class TaskCurves(NamedTuple):
    """Excess loss of one task left after 0, 1, ... steps; 1 is nothing learned.

    Attributes:
      undefended: on the features before, shape (steps + 1,).
      immunized: on those after.
    """

    undefended: np.ndarray
    immunized: np.ndarray

    @property
    def horizon(self) -> int:
        """The number of steps at the end."""
        return len(self.immunized) - 1


class ExcessCurves(NamedTuple):
    """Curves of both tasks; None for a task without targets."""

    primary: TaskCurves | None
    harmful: TaskCurves | None


def excess_curves(extraction: Extraction, steps: int = CURVE_STEPS) -> ExcessCurves:
    """The curves of both tasks on the rows of an extraction.

    Args:
      extraction: features before and after.
      steps: of gradient descent, static.
    """
    found = {}
    for name in ExcessCurves._fields:
        before, after = getattr(extraction.before, name), getattr(extraction.after, name)
        found[name] = None
        if after.y is not None:
            found[name] = TaskCurves(
                _curve(before, steps, getattr(extraction.before_rounding, name)),
                _curve(after, steps, getattr(extraction.after_rounding, name)),
            )
    return ExcessCurves(**found)


def steps_to_half(curve: np.ndarray) -> int | None:
    """Steps until at most half of the excess loss is left, at least 1; None if it never is."""
    reached = np.flatnonzero(np.asarray(curve) <= 0.5)
    return max(1, int(reached[0])) if len(reached) else None


def _curve(task: Task, steps: int, rounding: jax.Array | float) -> np.ndarray:
    return np.asarray(excess_curve(task.x, task.y, steps, rounding))
