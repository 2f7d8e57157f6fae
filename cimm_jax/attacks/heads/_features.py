"""What every head does to the features first, so that neither their scale nor a padding with zeros matters."""

import jax
import jax.numpy as jnp

from cimm_jax.attacks.problem import column_targets
from cimm_jax.attacks.protocol import Target

_LEAST_SPREAD_IN_EPS = 4.0


def standardised_target(target: Target) -> Target:
    """The target with every feature at mean 0 and variance 1 over the rows fitted, and targets of shape (N, C).

    A feature that is the same in all of those rows, but for rounding, is 0 everywhere.
    """
    target = column_targets(target)
    x = target.fit.x
    # From the first row, a constant feature is exactly zero; over the largest value, no square leaves the range.
    origin = x[0]
    largest = jnp.max(jnp.abs(x), axis=0)
    unit = jnp.where(largest > 0, largest, 1)
    mean = jnp.mean((x - origin[None, :]) / unit[None, :], axis=0)
    spread = jnp.sqrt(jnp.mean(((x - origin[None, :]) / unit[None, :] - mean[None, :]) ** 2, axis=0))
    varies = spread > _LEAST_SPREAD_IN_EPS * float(jnp.finfo(x.dtype).eps)
    scale = jnp.where(varies, 1 / jnp.where(varies, spread, 1), 0)
    return target.with_features(lambda x: ((x - origin[None, :]) / unit[None, :] - mean[None, :]) * scale[None, :])


def centred_target(target: Target) -> Target:
    """The target with every feature at mean 0 over the rows fitted, scaled as it was, and targets of shape (N, C)."""
    target = column_targets(target)
    origin = target.fit.x[0]
    mean = jnp.mean(target.fit.x - origin[None, :], axis=0)
    return target.with_features(lambda x: x - origin[None, :] - mean[None, :])


def features_in_use(x: jax.Array) -> jax.Array:
    """How many columns of standardised features, shape (N, d), are not zero, a scalar of their dtype; at least 1."""
    return jnp.maximum(jnp.sum(jnp.any(x != 0, axis=0), dtype=x.dtype), 1)
