"""The linear map that takes what linear heads can read of the harmful labels out of the features, and keeps the primary task.

A map x -> A x with A Cov(x, z) = 0 leaves no linear head, of any convex loss and by any optimizer, better than a constant on
the rows that it was made from (docs/theory.md, section 9). Which heads survive is decided by the kernel of A alone: those that
are orthogonal to it. Three maps have the harmful directions in it:

* "features": the one that changes the primary inputs least, in every norm at once; where both tasks label the same rows this is
  LEACE (Belrose et al., 2023).
* "covariance": of those that keep Cov(x, y) of the primary task, the same (an oblique projection, as in SPLINCE, 2025).
* "outputs": only the best primary heads among those that see nothing harmful are left, one direction for each primary label and
  one for the constant, since probes here have no intercept. The primary probe pays nothing more for it, and on rows that
  the eraser has not seen attackers find about (directions left) / N of the labels' variance instead of d / N. Every other
  use of the features is lost with it. The features are these heads, of unit covariance on primary rows but for the ridge, and
  zeros.

The other two are square maps whose kernel is exact up to the rounding of their entries. Whoever computes their features in more
digits than the map is stored with can amplify what rounding left; columns of zeros have nothing to amplify.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.erasure_frontier import check_loss_budget, within_budget
from cimm_jax.closed_form.label_directions import find_directions, orthonormal_range
from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import scaled
from cimm_jax.tasks import Task, TaskPair

__all__ = ["Erasure", "Keep", "check_eraser", "check_rank", "check_task_to_erase", "erase_labels"]

Keep = Literal["outputs", "covariance", "features"]
"""What an eraser keeps of the primary task."""


class Erasure(NamedTuple):
    """An eraser and what it took.

    Attributes:
      theta: features are x theta, shape (d, d), singular; with columns of zeros where "outputs" are kept.
      ridge: used on Cov(x_P), relative to its mean eigenvalue.
      erased: how many directions of the harmful labels went, int32.
      primary_lost: share lost of what linear heads explain of the primary labels, with that ridge.
      covariance_kept: bool, whether Cov(x_P, y) is what it was, but for rounding; None where that was not asked for.
    """

    theta: jax.Array
    ridge: jax.Array
    erased: jax.Array
    primary_lost: jax.Array
    covariance_kept: jax.Array | None


def erase_labels(
    primary: Task,
    harmful: Task | Sequence[Task],
    *,
    rank: int | None = None,
    loss_budget: float | None = None,
    keep: Keep = "outputs",
    ridge: float | None = None,
) -> Erasure:
    """The eraser in closed form. Pure.

    Args:
      primary: inputs of shape (N, d) and targets of shape (N,) or (N, C), as `inputs.as_array` takes them.
      harmful: the same. Several tasks on the same rows are columns of its targets; on rows of their own, a sequence of tasks.
      rank: at most how many directions of the harmful labels go, those first that are worth most; None is all of them.
      loss_budget: the largest share that may be lost of what linear heads explain of the primary labels; None is any.
      keep: what is kept of the primary task.
      ridge: added to Cov(x_P), relative to its mean eigenvalue; None chooses it on held-out primary rows
        (`label_ridge`). Which harmful directions go does not depend on it unless a rank or a budget is given.

    Raises:
      InputError: if a setting is out of range, or something is no array of real numbers.
    """
    check_eraser(rank, loss_budget, keep)
    found = find_directions(primary, harmful, ridge=ridge)
    gone = within_budget(found, rank=rank, loss_budget=loss_budget)
    covariance_kept = None
    if keep == "outputs":
        constant = found.mean / jnp.sqrt(1 + jnp.sum(jnp.square(found.mean)))
        theta = product(found.whitening, _guarded_heads(gone, jnp.concatenate([found.primary, constant], axis=1)))
    else:
        within, covariance_kept = _oblique(gone, found.primary) if keep == "covariance" else (_least_change(gone), None)
        theta = product(product(found.whitening, within.T), found.colouring)
    # What rounding left of the kernel: the two roots are inverse to each other only nearly.
    erased, count = orthonormal_range(product(found.colouring, gone))
    theta = theta - product(erased, product(erased.T, theta))
    theta = scaled(theta, -found.exponent) if keep == "outputs" else theta
    total = jnp.sum(jnp.square(found.primary))
    lost = jnp.sum(jnp.square(product(gone.T, found.primary))) / jnp.where(total > 0, total, 1)
    return Erasure(theta, found.ridge, count, lost, covariance_kept)


def check_eraser(rank: int | None, loss_budget: float | None, keep: str) -> None:
    """Raises `InputError` for a rank below 1, a budget that is no share, or an unknown `keep`."""
    if rank is not None and (isinstance(rank, bool) or int(rank) != rank or rank < 1):
        raise InputError(f"rank: needs a whole number of at least 1, got {rank}; an eraser of rank 0 erases nothing")
    check_loss_budget(loss_budget)
    if keep not in get_args(Keep):
        raise InputError(f"keep: {keep!r} is unknown; choose one of {', '.join(get_args(Keep))}")


def check_rank(rank: int | None, features: int, directions: int) -> None:
    """Raises `InputError` unless so many directions, of those that the harmful labels have, can go and leave a feature."""
    if rank is None:
        return
    if rank >= features:
        raise InputError(f"rank: {rank} of {features} directions leaves nothing; give at most {features - 1}")
    if rank > directions:
        raise InputError(f"rank: {rank} is more than the {directions} directions of the harmful labels; leave it out")


def check_task_to_erase(pair: TaskPair, rank: int | None, loss_budget: float | None, keep: str) -> None:
    """Raises `InputError` unless the concrete pair has harmful labels that can go and, for all but "features", primary ones."""
    directions = _label_rank(pair.harmful, "pair.harmful.y", "there is nothing to erase")
    if keep != "features":
        _label_rank(pair.primary, "pair.primary.y", "there is nothing to keep; give keep='features'")
    features = pair.harmful.x.shape[1]
    check_rank(rank, features, directions)
    if rank is None and loss_budget is None and directions >= features:
        raise InputError(
            f"rank: the harmful labels have {directions} directions and there are {features} features, of which nothing would "
            f"be left; give a rank of at most {features - 1}, or a loss_budget"
        )


def _label_rank(task: Task, name: str, so: str) -> int:
    """In how many directions concrete labels vary."""
    y = np.asarray(task.y).reshape(len(task.y), -1)
    if (y == y[:1]).all():
        raise InputError(f"{name}: is the same in every row, of one class only, so {so}")
    return int(np.linalg.matrix_rank(y - y.mean(0)))


def _least_change(gone: jax.Array) -> jax.Array:
    return jnp.eye(len(gone), dtype=gone.dtype) - product(gone, gone.T)


def _guarded_heads(gone: jax.Array, signals: jax.Array) -> jax.Array:
    """Orthonormal best heads of signals without the directions gone, shape (d, d); columns of none are zero.

    Signals stand in columns of the length of what the best head has in common with it, at most 1.
    """
    u, sigma, _ = svd(signals - product(gone, product(gone.T, signals)))
    # Of a signal that is gone entirely, rounding is left.
    rounding = 8 * max(signals.shape) ** 0.5 * float(jnp.finfo(signals.dtype).eps)
    kept = jnp.where((sigma > rounding)[None, :], u, 0)
    return jnp.pad(kept, ((0, 0), (0, len(kept) - kept.shape[1])))


def _oblique(gone: jax.Array, primary: jax.Array) -> tuple[jax.Array, jax.Array]:
    """I - P of the least norm with P u = u in the span of `gone` and P y = 0 in that of `primary`; and whether there is one.

    In principal vectors u_i of the one and q_i of the other, u_i^T q_i = c_i, P = sum_i u_i (u_i - c_i q_i)^T / (1 - c_i^2).
    Where a direction of both spans is nearly the same (c_i = 1), it cannot go and stay: it goes.
    """
    primary, _ = orthonormal_range(primary)
    a, cosine, bt = svd(product(gone.T, primary))
    square = 1 - jnp.square(cosine)  # of the sine
    apart = square > float(jnp.finfo(gone.dtype).eps) ** 0.5
    cosine, square = jnp.where(apart, cosine, 0), jnp.where(apart, square, 1)
    u, q = product(gone, a), product(primary, bt.T)
    tilt = (jnp.square(cosine)[None, :] * u - cosine[None, :] * q) / square[None, :]
    return _least_change(gone) - product(u, tilt.T), apart.all()
