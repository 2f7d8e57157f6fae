"""The baseline "R_ill only": Algorithm 1 without the term that keeps the primary task easy."""

import optax

from cimm_jax.methods._algorithm1 import ill_harmful, ill_of_blocks
from cimm_jax.methods._penalised import HessianFrom, SmallBatch, Term, default_optimizer, penalised
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses
from cimm_jax.numerics.penalty import Penalty, check_weight
from cimm_jax.numerics.regularizers import ill_rows


@reused(optimizer=default_optimizer)
def ill_only(
    *,
    lambda_harmful: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
    hessian: HessianFrom = HessianFrom.DATA,
) -> Method:
    """A baseline: raise the harmful condition number alone, without what keeps the primary task easy.

    Theta <- theta - eta (grad L + lambda_H K_H^{-1} grad R_ill(H_H)). Arguments and errors as in `algorithm1`.
    """
    check_weight(lambda_harmful, "lambda_harmful")
    terms = [Term(ill_harmful, lambda_harmful, SmallBatch("harmful", ill_rows))]
    penalties = (Penalty(ill_of_blocks, lambda_harmful),)
    return penalised(terms, optimizer=optimizer, loss=loss, hessian=hessian, penalties=penalties)
