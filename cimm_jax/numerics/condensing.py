"""Many rows as few that have the same covariances: a task of any size, read once in chunks, fits on a small machine.

With F^T F = [X Y]^T [X Y] and F as wide as it is high, the columns of F are inputs and targets of a task with d + c rows whose
X^T X, X^T Y and Y^T Y are those of all rows. Whatever depends on these alone (condition numbers, limits, closed forms, gradient
descent on the squared loss) is the same for both. F grows by chunks, F' = factor of [F; chunk], without a square that would
halve the digits.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import gram_factor
from cimm_jax.numerics.tall_qr import dealt_factors, is_tall
from cimm_jax.tasks import Task, TaskPair

__all__ = ["Condensed", "condense", "condensed_pair", "filled_up"]


class Condensed(NamedTuple):
    """A task in few rows.

    Attributes:
      task: inputs of shape (d + c, d) and targets of shape (d + c,) or (d + c, c); products summed over rows are those summed
        over all rows.
      folds: shape (folds, d, d): squared, the inputs' covariances over every fold-th row.
      rows: how many there were.
    """

    task: Task
    folds: jax.Array
    rows: int


def condense(chunks: Iterable[Task], *, folds: int = 1) -> Condensed:
    """All rows in few, float64 where the chunks are.

    Args:
      chunks: inputs of shape (n, d) and targets of shape (n,), (n, c) or None, alike in all; n is the same multiple of
        `folds` in all but the last, which may be shorter. A chunk that is spread over devices by rows is not copied to one
        (`tall_qr`).
      folds: rows are dealt to so many in turn.

    Raises:
      InputError: if there is no chunk, or one does not fit the first.
    """
    factors, count, inputs, single = None, 0, 0, False
    size: int | None = None
    for number, (x, y) in enumerate(chunks):
        columns = [] if y is None else [y]
        width = x.shape[1] + sum(math.prod(np.shape(part)[1:]) for part in columns)
        if size is None or factors is None:
            size, inputs, single = -(-len(x) // folds) * folds, x.shape[1], y is not None and np.ndim(y) == 1
            factors = jnp.zeros((folds, width, width), jnp.result_type(x, *columns))
        if len(x) > size or width != factors.shape[2] or count % size:
            raise InputError(
                f"chunks[{number}]: has shape {(len(x), width)}; give chunks like the first, only the last shorter"
            )
        if is_tall(x):
            dealt = dealt_factors(x, columns, folds=folds)
        else:
            whole = np.concatenate([np.asarray(part).reshape(len(x), -1) for part in (x, *columns)], axis=1)
            dealt = _dealt(filled_up(whole, size), folds)
        # Before another chunk is read: chunks that wait to be worked on would fill the memory.
        factors = _grown(factors, dealt).block_until_ready()
        count += len(x)
    if factors is None or not count:
        raise InputError("chunks: is empty; give at least one row")
    whole = _whole(factors)
    x, y = whole[:, :inputs], whole[:, inputs:]
    targets = None if not y.shape[1] else y[:, 0] if single else y
    return Condensed(Task(x, targets), _inputs_alone(factors[:, :, :inputs]), count)


def condensed_pair(pair: TaskPair) -> TaskPair:
    """The pair with each task in few rows, on one device, whose inputs are spread over devices by rows (`tall_qr.is_tall`)."""
    return TaskPair(*(condense([task]).task if is_tall(task.x) else task for task in pair))


def _dealt(rows: np.ndarray, folds: int) -> np.ndarray:
    """Rows of shape (n, columns) dealt to the folds in turn, shape (folds, n / folds, columns)."""
    return rows.reshape(-1, folds, rows.shape[1]).swapaxes(0, 1)


def filled_up(x: np.ndarray, rows: int) -> np.ndarray:
    """The rows of shape (n, d) and rows of zeros, `rows` together: one shape for all chunks, and no covariance changes."""
    return np.pad(x, ((0, rows - len(x)), (0, 0)))


@jax.jit
def _grown(factors: jax.Array, dealt: jax.Array) -> jax.Array:
    """With more rows for each fold, shape (folds, n, columns)."""
    return gram_factor(jnp.concatenate([factors, dealt], axis=1))


@jax.jit
def _whole(factors: jax.Array) -> jax.Array:
    return gram_factor(factors.reshape(-1, factors.shape[2]))


@jax.jit
def _inputs_alone(factors: jax.Array) -> jax.Array:
    return gram_factor(factors)
