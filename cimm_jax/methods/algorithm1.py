"""The paper's method: Algorithm 1 of Zheng et al. (ICML 2025)."""

import jax
import optax

from cimm_jax import losses
from cimm_jax.hessian import probe_hessian
from cimm_jax.methods.penalised import HessianFrom, SmallBatch, Term, View, check_weight, penalised
from cimm_jax.methods.protocol import Method
from cimm_jax.regularizers import ill_direction, ill_rows, well_direction, well_direction_from_top, well_rows
from cimm_jax.spectra import eigenpairs, feature_eigenpairs, largest_eigenpair


def algorithm1(
    *,
    lambda_primary: float | None = None,
    lambda_harmful: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
    hessian: HessianFrom = HessianFrom.DATA,
) -> Method:
    """Algorithm 1: theta <- theta - eta (grad L + lambda_P K_P^{-1} grad R_well(H_P) + lambda_H K_H^{-1} grad R_ill(H_H)).

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
    terms = [
        Term(well_primary, check_weight(lambda_primary, "lambda_primary"), SmallBatch("primary", well_rows)),
        Term(ill_harmful, check_weight(lambda_harmful, "lambda_harmful"), SmallBatch("harmful", ill_rows)),
    ]
    return penalised(terms, optimizer=optimizer, loss=loss, hessian=hessian)


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
