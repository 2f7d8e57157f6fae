"""The baseline "Opt kappa": gradient descent on the condition numbers themselves."""

import jax
import optax

from cimm_jax.methods._penalised import HessianFrom, Term, View, default_optimizer, penalised
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses
from cimm_jax.numerics.hessian import probe_hessian
from cimm_jax.numerics.penalty import Penalty, check_weight
from cimm_jax.numerics.spectra import log_condition_number, log_feature_condition_number


@reused(optimizer=default_optimizer)
def opt_kappa(
    *,
    lambda_primary: float | None = None,
    lambda_harmful: float | None = None,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
    hessian: HessianFrom = HessianFrom.DATA,
) -> Method:
    """A baseline: gradient descent on both condition numbers themselves.

    Minimises L + lambda_P log kappa(H_P) + lambda_H / log kappa(H_H) by automatic differentiation, without K^{-1}.

    kappa is that of `PseudoInverse()`: the smallest eigenvalue above rounding is pushed, where the released code pushes
    whatever it finds above its floor of 1e-6. Arguments and errors as in `algorithm1`.
    """
    check_weight(lambda_primary, "lambda_primary")
    check_weight(lambda_harmful, "lambda_harmful")
    terms = [
        Term(jax.grad(_log_kappa_primary), lambda_primary),
        Term(jax.grad(_inverse_log_kappa_harmful), lambda_harmful),
    ]
    penalties = (
        Penalty(lambda batch: log_feature_condition_number(batch.primary.x), lambda_primary),
        Penalty(lambda batch: 1 / log_feature_condition_number(batch.harmful.x), lambda_harmful),
    )
    return penalised(terms, optimizer=optimizer, loss=loss, hessian=hessian, penalties=penalties)


def _log_kappa_primary(theta: jax.Array, view: View) -> jax.Array:
    return _log_kappa(theta, view.batch.primary.x, view.k_primary)


def _inverse_log_kappa_harmful(theta: jax.Array, view: View) -> jax.Array:
    return 1 / _log_kappa(theta, view.batch.harmful.x, view.k_harmful)


def _log_kappa(theta: jax.Array, x: jax.Array, k: jax.Array | None) -> jax.Array:
    """Log kappa of the probe Hessian of all rows, or, where K is not given, of the batch."""
    if k is None:
        return log_feature_condition_number(x @ theta)
    return log_condition_number(probe_hessian(theta, k), symmetric=True)
