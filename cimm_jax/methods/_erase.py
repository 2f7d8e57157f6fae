"""The eraser: what linear heads can read of the harmful labels is not in the features any more."""

import jax

from cimm_jax.closed_form.erasure import Keep, check_eraser, check_task_to_erase, erase_labels
from cimm_jax.closed_form.solution import check_ridge
from cimm_jax.methods._one_step import one_step
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.tasks import TaskPair


@reused
def erase(
    *, rank: int | None = None, loss_budget: float | None = None, keep: Keep = "outputs", ridge: float | None = None
) -> Method:
    """A closed form that erases what linear heads can read of the harmful labels.

    Theta^T Cov(x, z) = 0: no linear head of any loss, found by any optimizer, beats a constant on the rows it is made from.

    It removes information, where the other methods slow descent: whitening, solving and merging layers bring nothing back.
    Heads that are not linear may still find what second and higher moments say, and the features one layer back are as they
    were. Theta is singular, so a published head is refitted behind it (`head_refit`) instead of absorbing its inverse.

    Args:
      rank: at most how many directions of the harmful labels go; None is all, at most C - 1 for C classes.
      loss_budget: the largest share that may be lost of what linear heads explain of the primary labels; None is any. With it,
        the directions go that take most of the harmful signal for it (`erasure_frontier`).
      keep: "outputs" leaves only what the best guarded primary heads look at, which serves best on rows that the eraser has
        not seen, but no further task; "covariance" leaves all other directions and Cov(x, y) of the primary task exactly;
        "features" changes the primary inputs least (LEACE), whatever their labels are.
      ridge: added to the centred primary covariance, relative to its mean eigenvalue; None chooses it on held-out primary rows
        (`label_ridge.choose_label_ridge`).

    Raises:
      InputError: if a setting is out of range. `immunize` also raises it for labels of one class only, and where nothing would
        be left.
    """
    check_eraser(rank, loss_budget, keep)
    check_ridge(ridge)

    def solve(key: jax.Array, pair: TaskPair) -> jax.Array:
        del key
        return erase_labels(*pair, rank=rank, loss_budget=loss_budget, keep=keep, ridge=ridge).theta

    def check(pair: TaskPair) -> None:
        check_task_to_erase(pair, rank, loss_budget, keep)

    return one_step(solve, needs_targets=True, check=check)
