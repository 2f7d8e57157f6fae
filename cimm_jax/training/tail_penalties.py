"""What the paper's methods add to the primary loss of a network's trainable tail (Eqs. 17 and 18), on a batch's features.

The K^{-1} of Algorithm 1 stands between the features and the regularizer as an identity layer: its backward pass multiplies the
gradient of the features F, shape (B, d), by (F^T F)^{-1} from the right, inverted on its range. With S = F^T F that turns
F V diag(c_i sigma_i) V^T into F V diag(c_i) V^T: every direction moves at its own scale.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax import losses
from cimm_jax.errors import InputError
from cimm_jax.methods.imma import loss_reached
from cimm_jax.methods.penalised import check_weight
from cimm_jax.preconditioning import precondition_gradient, preconditioner
from cimm_jax.regularizers import r_ill, r_well
from cimm_jax.spectra import log_feature_condition_number

_HIGHEST = jax.lax.Precision.HIGHEST


class Batch(NamedTuple):
    """Features of both tasks.

    Attributes:
      primary: shape (B, d).
      harmful: shape (B', d).
      harmful_targets: one-hot, shape (B', C).
    """

    primary: jax.Array
    harmful: jax.Array
    harmful_targets: jax.Array


@dataclass(frozen=True)
class Penalty:
    """One addition to the primary loss.

    Attributes:
      value: batch -> scalar.
      weight: lambda; None balances it, so that its first gradient is as long as the primary loss's.
    """

    value: Callable[[Batch], jax.Array]
    weight: float | None = None


def algorithm1(lambda_primary: float | None = None, lambda_harmful: float | None = None) -> tuple[Penalty, ...]:
    """lambda_P R_well(S_P) + lambda_H R_ill(S_H), each behind its identity layer."""
    return (
        Penalty(lambda batch: r_well(_gram(_layer(batch.primary))), check_weight(lambda_primary, "lambda_primary")),
        *ill_only(lambda_harmful),
    )


def ill_only(lambda_harmful: float | None = None) -> tuple[Penalty, ...]:
    """lambda_H R_ill(S_H) behind its identity layer."""
    return (Penalty(lambda batch: r_ill(_gram(_layer(batch.harmful))), check_weight(lambda_harmful, "lambda_harmful")),)


def opt_kappa(lambda_primary: float | None = None, lambda_harmful: float | None = None) -> tuple[Penalty, ...]:
    """lambda_P log kappa(S_P) + lambda_H / log kappa(S_H), without K^{-1}."""
    return (
        Penalty(
            lambda batch: log_feature_condition_number(batch.primary), check_weight(lambda_primary, "lambda_primary")
        ),
        Penalty(
            lambda batch: 1 / log_feature_condition_number(batch.harmful),
            check_weight(lambda_harmful, "lambda_harmful"),
        ),
    )


def imma(lambda_harmful: float | None = None, *, lower_steps: int = 10) -> tuple[Penalty, ...]:
    """Minus lambda_H times the harmful l2 loss that a probe reaches in some gradient steps; as `methods.imma`.

    Raises:
      InputError: if there are no steps.
    """
    if lower_steps < 1:
        raise InputError(f"lower_steps: needs at least 1, got {lower_steps}")

    def minus_loss_reached(batch: Batch) -> jax.Array:
        targets = batch.harmful_targets
        return -loss_reached(batch.harmful, targets, targets.size, loss=losses.squared, steps=lower_steps)

    return (Penalty(minus_loss_reached, check_weight(lambda_harmful, "lambda_harmful")),)


BY_NAME: dict[str, Callable[..., tuple[Penalty, ...]]] = {
    "algorithm1": algorithm1,
    "ill_only": ill_only,
    "opt_kappa": opt_kappa,
    "imma": imma,
}
"""Penalties by the name of the method; called without arguments, with balanced weights."""


def by_name(
    name: str, *, lambda_primary: float | None = None, lambda_harmful: float | None = None
) -> tuple[Penalty, ...]:
    """The penalties of a method.

    Args:
      name: of `BY_NAME`.
      lambda_primary: weight of the primary penalty; None balances it.
      lambda_harmful: weight of the harmful one.

    Raises:
      InputError: if the method is unknown or trains no network, or has no such weight, or a weight is out of range.
    """
    if name not in BY_NAME:
        raise InputError(f"method: {name!r} trains no blocks of a network; choose one of {', '.join(BY_NAME)}")
    weights = {"lambda_primary": lambda_primary, "lambda_harmful": lambda_harmful}
    given = {key: weight for key, weight in weights.items() if weight is not None}
    for key in given:
        if key not in inspect.signature(BY_NAME[name]).parameters:
            raise InputError(f"{key}: {name} has no such weight; leave it out")
    return BY_NAME[name](**given)


def _gram(features: jax.Array) -> jax.Array:
    return jnp.matmul(features.T, features, precision=_HIGHEST)


def _layer(features: jax.Array) -> jax.Array:
    return precondition_gradient(features.T, preconditioner(_gram(jax.lax.stop_gradient(features)))).T
