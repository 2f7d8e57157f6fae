"""The paper's method: Algorithm 1 of Zheng et al. (ICML 2025)."""

import jax
import optax

from cimm_jax.methods._penalised import HessianFrom, SmallBatch, Term, View, default_optimizer, penalised
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses
from cimm_jax.numerics.hessian import probe_hessian
from cimm_jax.numerics.penalty import Penalty, check_weight
from cimm_jax.numerics.preconditioning import preconditioned_gram
from cimm_jax.numerics.regularizers import (
    ill_direction,
    ill_rows,
    r_ill,
    r_well,
    well_direction,
    well_direction_from_top,
    well_rows,
)
from cimm_jax.numerics.spectra import eigenpairs, feature_eigenpairs, largest_eigenpair
from cimm_jax.tasks import TaskPair


@reused(optimizer=default_optimizer)
def algorithm1(
    *,
    lambda_primary: float | None = None,
    lambda_harmful: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
    hessian: HessianFrom = HessianFrom.DATA,
) -> Method:
    """The paper's method: raise the harmful condition number and lower the primary one by their regularizers.

    Algorithm 1: theta <- theta - eta (grad L + lambda_P K_P^{-1} grad R_well(H_P) + lambda_H K_H^{-1} grad R_ill(H_H)).

    K^{-1} cancels in closed form (`regularizers`), where the paper and its code solve with a ridge. The paper chooses the
    lambdas by bringing the gradients to one length; None does that at the first step, with the whole training pair.

    Args:
      lambda_primary: weight of R_well on the primary Hessian; None balances it.
      lambda_harmful: weight of R_ill on the harmful Hessian; None balances it.
      optimizer: any optax optimizer; None is `default_optimizer()`.
      loss: the primary loss, `losses.squared` or `losses.logistic`.
      hessian: regularizers on all rows (default) or on the batch, as in the released code.

    Raises:
      InputError: if a lambda is negative, infinite or NaN.
    """
    check_weight(lambda_primary, "lambda_primary")
    check_weight(lambda_harmful, "lambda_harmful")
    terms = [
        Term(well_primary, lambda_primary, SmallBatch("primary", well_rows)),
        Term(ill_harmful, lambda_harmful, SmallBatch("harmful", ill_rows)),
    ]
    penalties = (Penalty(well_of_blocks, lambda_primary), Penalty(ill_of_blocks, lambda_harmful))
    return penalised(terms, optimizer=optimizer, loss=loss, hessian=hessian, penalties=penalties)


def well_primary(theta: jax.Array, view: View) -> jax.Array:
    """K_P^{-1} grad R_well(H_P): from the largest eigenpair alone, or from those of the batch's features."""
    if view.k_primary is None:
        return well_direction(theta, feature_eigenpairs(view.batch.primary.x @ theta))
    h = probe_hessian(theta, view.k_primary)
    return well_direction_from_top(theta, h, largest_eigenpair(h))


def ill_harmful(theta: jax.Array, view: View) -> jax.Array:
    """K_H^{-1} grad R_ill(H_H)."""
    if view.k_harmful is None:
        return ill_direction(theta, feature_eigenpairs(view.batch.harmful.x @ theta))
    return ill_direction(theta, eigenpairs(probe_hessian(theta, view.k_harmful)))


def well_of_blocks(batch: TaskPair) -> jax.Array:
    """R_well of the primary features' S_P, behind its identity layer."""
    return r_well(preconditioned_gram(batch.primary.x))


def ill_of_blocks(batch: TaskPair) -> jax.Array:
    """R_ill of the harmful features' S_H, behind its identity layer."""
    return r_ill(preconditioned_gram(batch.harmful.x))
