"""What of the harmful labels could go and what that would cost the primary ones, before anything is trained."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.erasure import erase_labels
from cimm_jax.measures.explained import MOST_ROWS, head_shares
from cimm_jax.numerics.products import product
from cimm_jax.tasks import Array, Task, TaskPair

__all__ = ["Separable", "separability"]


class Separable(NamedTuple):
    """Shares of the harmful labels' variance that heads explain, and what they share with the primary labels.

    An eraser in closed form, which keeps the covariance with the primary labels where it can, is made on half of the rows; the
    shares are those of the other half.

    Attributes:
      rows: harmful ones that the shares were estimated on.
      linear: of ridge regression (`closed_form.explained_share`).
      kernel: of ridge regression on a Gaussian kernel.
      linear_left: of ridge regression behind the eraser.
      kernel_left: of the kernel behind it: what a linear map cannot take.
      shared: share of what linear heads explain of the primary labels that lies in the harmful directions, the price of an
        eraser that leaves nothing there; 0 where the two tasks can be told apart entirely.
    """

    rows: int
    linear: float
    kernel: float
    linear_left: float
    kernel_left: float
    shared: float


def separability(pair: TaskPair, seed: int = 0) -> Separable:
    """How far the harmful labels can be told apart from the primary ones in these features.

    Args:
      pair: features of shape (N, d) and targets of shape (N,) or (N, C) of both tasks, on the host; targets differ.
      seed: draws the rows, at most `explained.MOST_ROWS` in each half, and the halves.
    """
    rng = np.random.default_rng(seed)
    (made_of, _), (to_erase, judged) = (_halves(len(task.x), rng) for task in pair)
    primary, harmful = (
        Task(jnp.asarray(task.x)[rows], _columns(task.y)[rows])
        for task, rows in ((pair.primary, made_of), (pair.harmful, to_erase))
    )
    erasure = _erase(primary, harmful)
    x, y = jnp.asarray(pair.harmful.x)[judged], _columns(pair.harmful.y)[judged]
    left = head_shares(product(x, erasure.theta), y)
    return Separable(len(judged), *head_shares(x, y), *left, float(erasure.primary_lost))


def _columns(y: Array | None) -> jax.Array:
    columns = jnp.asarray(y)
    return columns.reshape(columns.shape[0], -1)


def _halves(rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    order = rng.permutation(rows)[: 2 * MOST_ROWS]
    return np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])


_erase = jax.jit(lambda primary, harmful: erase_labels(primary, harmful, keep="covariance"))
