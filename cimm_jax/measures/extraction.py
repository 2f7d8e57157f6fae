"""What every measure is a function of: a pair's features under the extractor compared with and under the one judged.

A linear extractor, a map behind a network's features and trained blocks differ in how the features came about, and in what
rounding left in them; once both are here, nobody needs to ask again.
"""

from typing import NamedTuple

import jax
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.numerics.inputs import as_array, as_pair
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import product_amplification
from cimm_jax.tasks import Array, Task, TaskPair

__all__ = ["Extraction", "Rounding", "as_extraction", "check_extractor", "extract"]


class Rounding(NamedTuple):
    """How much larger than its own rounding errors are those of each task's features (`spectra.product_amplification`).

    Attributes:
      primary: of the primary task's features, a scalar, at least 1.
      harmful: of the harmful task's.
    """

    primary: jax.Array | float = 1.0
    harmful: jax.Array | float = 1.0


class Extraction(NamedTuple):
    """Features of the same rows before and after; a pytree, so that `jit` and `vmap` apply.

    Attributes:
      before: the pair under the extractor compared with: inputs of shape (N, d) and targets.
      after: the same rows under the extractor judged, inputs of shape (N, m).
      before_rounding: of the features before.
      after_rounding: of the features after.
      theta: the map, shape (d, m), where `after` is `before` times one; None where no map leads from one to the other.
    """

    before: TaskPair
    after: TaskPair
    before_rounding: Rounding = Rounding()
    after_rounding: Rounding = Rounding()
    theta: Array = None

    def rows(self, primary: jax.Array, harmful: jax.Array) -> "Extraction":
        """The rows of these numbers of each task; what rounding left is judged by these rows alone. Pure."""
        before, after = (
            TaskPair(_rows(pair.primary, primary), _rows(pair.harmful, harmful)) for pair in (self.before, self.after)
        )
        return self._replace(before=before, after=after)._with_own_rounding()

    def weighted(self, primary: jax.Array, harmful: jax.Array) -> "Extraction":
        """Every row times a weight of shape (N, 1), without targets: what a Bayesian bootstrap draws. Pure."""
        before = TaskPair(Task(primary * self.before.primary.x), Task(harmful * self.before.harmful.x))
        if self.theta is not None:
            return extract(self.theta, before)
        after = TaskPair(Task(primary * self.after.primary.x), Task(harmful * self.after.harmful.x))
        return self._replace(before=before, after=after)

    def _with_own_rounding(self) -> "Extraction":
        return (
            self if self.theta is None else self._replace(after_rounding=_rounding(self.before, self.theta, self.after))
        )


def extract(theta: Array, pair: TaskPair, reference: Array = None) -> Extraction:
    """A linear extractor on a pair of tasks. Pure.

    Args:
      theta: extractor, shape (d, m), as `inputs.as_array` takes it.
      pair: the tasks, inputs of shape (N, d), the same.
      reference: the extractor compared with, shape (d, m'); None is the identity.

    Raises:
      InputError: if an extractor's number of rows is not the tasks' number of features, or something is no array of numbers.
    """
    theta, pair = as_array(theta, "theta"), as_pair(pair)
    check_extractor(theta, pair, "theta")
    after = _behind(theta, pair)
    found = Extraction(pair, after, after_rounding=_rounding(pair, theta, after), theta=theta)
    if reference is None:
        return found
    reference = as_array(reference, "reference")
    check_extractor(reference, pair, "reference")
    before = _behind(reference, pair)
    return found._replace(before=before, before_rounding=_rounding(pair, reference, before), theta=None)


def as_extraction(extraction: Extraction) -> Extraction:
    """The same with arrays as `inputs.as_array` makes them: what features that came from elsewhere need. Pure."""
    before, after = as_pair(extraction.before, "before"), as_pair(extraction.after, "after")
    theta = None if extraction.theta is None else as_array(extraction.theta, "theta")
    return extraction._replace(before=before, after=after, theta=theta)


def check_extractor(theta: Array, pair: TaskPair, name: str) -> None:
    """Raises `InputError` unless theta has one row for each of the pair's features."""
    features = np.shape(pair.primary.x)[-1]
    if np.ndim(theta) != 2 or np.shape(theta)[0] != features:
        raise InputError(f"{name}: needs shape ({features}, m) for these tasks, got {np.shape(theta)}")


def _behind(theta: Array, pair: TaskPair) -> TaskPair:
    return TaskPair(*(task._replace(x=product(task.x, theta)) for task in pair))


def _rounding(before: TaskPair, theta: Array, after: TaskPair) -> Rounding:
    return Rounding(*(product_amplification(x.x, theta, f.x) for x, f in zip(before, after, strict=True)))


def _rows(task: Task, chosen: jax.Array) -> Task:
    return jax.tree.map(lambda leaf: leaf[chosen], task)
