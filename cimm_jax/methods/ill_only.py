"""The baseline "R_ill only": Algorithm 1 without the term that keeps the primary task easy."""

import optax

from cimm_jax import losses
from cimm_jax.methods.algorithm1 import ill_harmful
from cimm_jax.methods.penalised import HessianFrom, SmallBatch, Term, check_weight, penalised
from cimm_jax.methods.protocol import Method
from cimm_jax.regularizers import ill_rows


def ill_only(
    *,
    lambda_harmful: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
    hessian: HessianFrom = HessianFrom.DATA,
) -> Method:
    """Theta <- theta - eta (grad L + lambda_H K_H^{-1} grad R_ill(H_H)). Arguments and errors as in `algorithm1`."""
    terms = [Term(ill_harmful, check_weight(lambda_harmful, "lambda_harmful"), SmallBatch("harmful", ill_rows))]
    return penalised(terms, optimizer=optimizer, loss=loss, hessian=hessian)
