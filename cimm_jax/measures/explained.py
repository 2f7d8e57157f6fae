"""What closed-form heads explain of the harmful labels before and after: whether information went, not only speed."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.explained_share import kernel_share, linear_share
from cimm_jax.measures.extraction import Extraction
from cimm_jax.tasks import Task

__all__ = ["MOST_ROWS", "BeforeAfter", "Explained", "explained_labels", "head_shares"]

MOST_ROWS = 1024
"""That heads look at: a kernel's cost grows with their cube."""


class BeforeAfter(NamedTuple):
    """A share before and after.

    Attributes:
      undefended: on the features compared with.
      immunized: on those judged.
    """

    undefended: float
    immunized: float


class Explained(NamedTuple):
    """Shares of the harmful labels' variance that heads explain (`closed_form.explained_share`), 0 for nothing.

    Attributes:
      rows: that they were estimated on.
      linear: of ridge regression.
      kernel: of ridge regression on a Gaussian kernel.
    """

    rows: int
    linear: BeforeAfter
    kernel: BeforeAfter


def explained_labels(extraction: Extraction) -> Explained | None:
    """Both heads' shares on rows of one part; of many rows, on some, drawn. None where no labels tell rows apart."""
    before, after = extraction.before.harmful, extraction.after.harmful
    if before.y is None:
        return None
    rows = np.sort(np.random.default_rng(0).permutation(len(before.x))[:MOST_ROWS])
    y = np.asarray(before.y)[rows].reshape(len(rows), -1)
    if not (y != y[:1]).any():
        return None

    def shares(task: Task) -> tuple[float, float]:
        return head_shares(_taken(jnp.asarray(task.x), rows), jnp.asarray(y))

    (linear, kernel), (linear_after, kernel_after) = shares(before), shares(after)
    return Explained(len(rows), BeforeAfter(linear, linear_after), BeforeAfter(kernel, kernel_after))


def head_shares(x: jax.Array, y: jax.Array) -> tuple[float, float]:
    """Shares of targets (N, C) that ridge regression and a Gaussian kernel explain, of features (N, d)."""
    return float(_linear(x, y)), float(_kernel(x, y))


@jax.jit
def _taken(x: jax.Array, rows: jax.Array) -> jax.Array:
    """In one program: indexing makes ten of them otherwise."""
    return x[rows]


_linear, _kernel = jax.jit(linear_share), jax.jit(kernel_share)
