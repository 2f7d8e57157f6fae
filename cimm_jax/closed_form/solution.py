"""The extractor that attains the exact limit, or spends a budget on what an attacker needs: solved, not trained."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.allocation import Allocation, LargestKappa, Objective, allocate
from cimm_jax.closed_form.limits import pair_pencil
from cimm_jax.closed_form.pencil import Pencil
from cimm_jax.closed_form.ridge import choose_ridge
from cimm_jax.closed_form.units import own_units
from cimm_jax.errors import InputError
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import scaled
from cimm_jax.tasks import TaskPair

__all__ = ["Solution", "check_ridge", "extractor", "solve"]


def check_ridge(ridge: float | None) -> None:
    """Raises `InputError` unless the ridge is None or a finite number of at least 0."""
    if ridge is not None and not 0 <= ridge < float("inf"):
        raise InputError(f"ridge: needs a finite number of at least 0, or None, got {ridge}")


class Solution(NamedTuple):
    """The closed form before the rotation.

    Attributes:
      theta: shape (d, d), invertible.
      ridge: the ridge used, scalar.
      pencil: the pencil it was made from.
      allocation: how the budget was spent.
    """

    theta: jax.Array
    ridge: jax.Array
    pencil: Pencil
    allocation: Allocation


def solve(
    pair: TaskPair, *, budget: float | str = "keep", objective: Objective = LargestKappa(), ridge: float | None = None
) -> Solution:
    """The closed form with everything it was made from. Pure.

    Args:
      pair: the tasks, as `inputs.as_array` takes their arrays.
      budget: as in `methods.pencil`, and so are the others.
      objective: what the budget is spent on.
      ridge: relative to the mean eigenvalue of K_P; None chooses it.

    Raises:
      InputError: if something is no array of real numbers, or the objective needs targets that a task lacks.
    """
    units = own_units(pair)
    x = units.pair.primary.x
    chosen = choose_ridge(x).ridge if ridge is None else jnp.asarray(ridge, x.dtype)
    decomposed = pair_pencil(units.pair, ridge=chosen)
    allocation = allocate(decomposed, units.pair, budget, objective)
    theta = scaled(extractor(decomposed, allocation.scale, chosen), -units.primary)
    return Solution(theta, chosen, decomposed.scaled(units.primary, units.harmful), allocation)


def extractor(decomposed: Pencil, scale: jax.Array, ridge: jax.Array | float) -> jax.Array:
    """Theta = V Lambda O^T U^T + t (I - U U^T), shape (d, d); U the basis, O the rotation within it. Symmetric for Lambda = 1.

    The second part serves directions that the primary task lacks: t^2 = 1 / (mean eigenvalue in the range + ridge).
    """
    basis, rotation = decomposed.basis, decomposed.rotation
    features, size = basis.shape
    trace = decomposed.primary.sum()
    unseen = 1 / jnp.sqrt(trace / decomposed.rank_primary.astype(trace.dtype) + ridge * trace / features)
    spread = product(rotation * jnp.sqrt(scale)[None, :], rotation.T)
    within = decomposed.whitening[:, None] * spread - unseen * jnp.eye(size, dtype=basis.dtype)
    around = product(product(basis, within), basis.T)
    return around + unseen * jnp.eye(features, dtype=basis.dtype)
