"""The closed form: the extractor that attains the exact limit, or spends a budget on what an attacker needs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.allocation import Allocation, LargestKappa, Objective, SignalAware, allocate, check_budget
from cimm_jax.decompositions import qr
from cimm_jax.errors import InputError
from cimm_jax.hessian import covariance, probe_hessian
from cimm_jax.limits import pair_pencil
from cimm_jax.methods.protocol import Info, Method
from cimm_jax.pencil import Pencil
from cimm_jax.ridge import choose_ridge
from cimm_jax.spectra import condition_number
from cimm_jax.tasks import TaskPair

_HIGHEST = jax.lax.Precision.HIGHEST


class State(NamedTuple):
    """State of the closed form.

    Attributes:
      theta: extractor, shape (d, d): the identity before the one step, the solution after it.
      solution: shape (d, d).
      k_primary: covariance of the whole primary task, shape (d, d).
      k_harmful: covariance of the whole harmful task, shape (d, d).
    """

    theta: jax.Array
    solution: jax.Array
    k_primary: jax.Array
    k_harmful: jax.Array


def pencil(
    *,
    budget: float | str = "keep",
    objective: Objective = LargestKappa(),
    ridge: float | None = None,
    rotate: bool = True,
) -> Method:
    """Theta = V Lambda Q: V makes K_P the identity and K_H diagonal, Lambda spends the budget, Q hides the axes.

    Without a ridge RIR reaches the limit of every linear extractor at every budget; what the budget buys is kappa(H_H), at most
    budget * mu_max / mu_min. Directions that the primary task lacks are scaled as if it had its mean energy there.

    Args:
      budget: the largest kappa(H_P) allowed on the training rows; 1 whitens the primary task; "keep" is kappa(K_P), all that
        condition (b) of Definition 3.1 allows.
      objective: `LargestKappa()` or `SignalAware(...)`.
      ridge: added to K_P, relative to its mean eigenvalue; None chooses it on held-out primary rows (`ridge.choose_ridge`).
      rotate: multiply by a Haar-random rotation drawn from the key. It changes no condition number and no run of gradient
        descent, but denies Adam and its kin the axes along which their diagonal scaling undoes the map.

    Raises:
      InputError: if the budget is below 1 or the ridge is negative, infinite or NaN.
    """
    check_budget(budget)
    check_ridge(ridge)

    def init(key: jax.Array, pair: TaskPair) -> State:
        solution = solve(pair, budget=budget, objective=objective, ridge=ridge).theta
        if rotate:
            solution = jnp.matmul(solution, haar_rotation(key, len(solution), solution.dtype), precision=_HIGHEST)
        return State(jnp.eye(*solution.shape, dtype=solution.dtype), solution, *(covariance(task.x) for task in pair))

    def step(state: State, batch: TaskPair) -> tuple[State, Info]:
        primary = condition_number(probe_hessian(state.theta, state.k_primary))
        harmful = condition_number(probe_hessian(state.theta, state.k_harmful))
        loss = jnp.full((), jnp.nan, batch.primary.x.dtype)
        info = Info(loss, primary.kappa, harmful.kappa, primary.floored | harmful.floored)
        return state._replace(theta=state.solution), info

    needs_targets = isinstance(objective, SignalAware)
    return Method(init, step, lambda state: state.theta, closed_form=True, needs_targets=needs_targets)


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
    """The closed form with everything it was made from. Pure; arguments as in `pencil`."""
    x = pair.primary.x
    chosen = choose_ridge(x).ridge if ridge is None else jnp.asarray(ridge, x.dtype)
    decomposed = pair_pencil(pair, ridge=chosen)
    allocation = allocate(decomposed, pair, budget, objective)
    return Solution(extractor(decomposed, allocation.scale, chosen), chosen, decomposed, allocation)


def extractor(decomposed: Pencil, scale: jax.Array, ridge: jax.Array | float) -> jax.Array:
    """Theta = V Lambda O^T U^T + t (I - U U^T), shape (d, d); U the basis, O the rotation within it. Symmetric for Lambda = 1.

    The second part serves directions that the primary task lacks: t^2 = 1 / (mean eigenvalue in the range + ridge).
    """
    basis, rotation = decomposed.basis, decomposed.rotation
    features, size = basis.shape
    trace = decomposed.primary.sum()
    unseen = 1 / jnp.sqrt(trace / decomposed.rank_primary.astype(trace.dtype) + ridge * trace / features)
    spread = jnp.matmul(rotation * jnp.sqrt(scale)[None, :], rotation.T, precision=_HIGHEST)
    within = decomposed.whitening[:, None] * spread - unseen * jnp.eye(size, dtype=basis.dtype)
    around = jnp.matmul(jnp.matmul(basis, within, precision=_HIGHEST), basis.T, precision=_HIGHEST)
    return around + unseen * jnp.eye(features, dtype=basis.dtype)


def haar_rotation(key: jax.Array, size: int, dtype) -> jax.Array:
    """An orthogonal matrix drawn uniformly (Haar), shape (size, size), by QR with R's signs moved to Q (Mezzadri, 2007)."""
    q, r = qr(jax.random.normal(key, (size, size), dtype))
    return q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(dtype)[None, :]
