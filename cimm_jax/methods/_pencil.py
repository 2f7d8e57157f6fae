"""The closed form: the extractor that attains the exact limit, or spends a budget on what an attacker needs."""

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.allocation import LargestKappa, Objective, SignalAware, check_budget
from cimm_jax.closed_form.solution import check_ridge, solve
from cimm_jax.methods._one_step import one_step
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics.decompositions import qr
from cimm_jax.numerics.products import product
from cimm_jax.tasks import TaskPair

LIGHT_RIDGE = 1e-6
"""A heavier one hides the directions that a signal-aware budget would be spent on."""

LEARNED_RIDGE = 1e-2
"""For blocks that learn the map: behind a light one they would have to enlarge what is hardly there a thousand times."""


@reused
def pencil(
    *,
    budget: float | str = "keep",
    objective: Objective = LargestKappa(),
    ridge: float | None = None,
    rotate: bool = True,
) -> Method:
    """The closed form that attains the limit of linear maps within a budget on the primary condition number.

    Theta = V Lambda Q: V makes K_P the identity and K_H diagonal, Lambda spends the budget, Q hides the axes.

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

    def theta(key: jax.Array, pair: TaskPair) -> jax.Array:
        solution = solve(pair, budget=budget, objective=objective, ridge=ridge).theta
        return product(solution, haar_rotation(key, len(solution), solution.dtype)) if rotate else solution

    return one_step(theta, needs_targets=isinstance(objective, SignalAware))


def pencil_signal(*, budget: float | str = "keep", ridge: float | None = LIGHT_RIDGE, rotate: bool = True) -> Method:
    """`pencil` that spends the budget where the attacker's labels are and the primary's are not; arguments as there."""
    return pencil(budget=budget, objective=SignalAware(), ridge=ridge, rotate=rotate)


def pencil_no_slower(*, budget: float | str = "keep", ridge: float | None = LIGHT_RIDGE, rotate: bool = True) -> Method:
    """`pencil_signal` with the primary task no slower than undefended after 10, 100 and 1,000 steps of exact line search."""
    objective = SignalAware(primary_no_slower_at=(10, 100, 1000))
    return pencil(budget=budget, objective=objective, ridge=ridge, rotate=rotate)


def haar_rotation(key: jax.Array, size: int, dtype) -> jax.Array:
    """An orthogonal matrix drawn uniformly (Haar), shape (size, size), by QR with R's signs moved to Q (Mezzadri, 2007)."""
    q, r = qr(jax.random.normal(key, (size, size), dtype))
    return q * jnp.where(jnp.diagonal(r) < 0, -1, 1).astype(dtype)[None, :]
