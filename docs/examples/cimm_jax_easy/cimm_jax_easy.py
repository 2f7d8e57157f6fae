"""A method and an attacker of one's own for cimm_jax.

As a file: `cimm immunize --method cimm_jax_easy.py:easy`. Installed (`pip install .`): `cimm immunize --method easy`.
"""

import jax
import jax.numpy as jnp

from cimm_jax import InputError, attacks, covariance, losses
from cimm_jax.attacks import Attack, Target, Trace
from cimm_jax.methods import Method, one_step, reused
from cimm_jax.numerics.decompositions import eigh
from cimm_jax.tasks import TaskPair

__all__ = ["easy", "heavy_ridge"]


@reused
def easy(*, ridge: float = 1e-6) -> Method:
    """Makes the primary task as easy as can be, and leaves the harmful one to chance: theta = (K_P + ridge)^(-1/2).

    Args:
      ridge: relative to the mean eigenvalue of K_P.

    Raises:
      InputError: if the ridge is not positive.
    """
    if not ridge > 0:
        raise InputError(f"ridge: needs a positive number, got {ridge}")

    def theta(key: jax.Array, pair: TaskPair) -> jax.Array:
        del key
        values, vectors = eigh(covariance(pair.primary.x))
        return (vectors / jnp.sqrt(values + ridge * values.mean())) @ vectors.T

    return one_step(theta, needs_targets=False)


def heavy_ridge(*, steps: int, loss: losses.Loss, record_at: tuple[int, ...] | None) -> Attack:
    """An attacker who solves the normal equations on features of length 1; the rate is not used."""
    solves = attacks.normal_equations(steps=steps, loss=loss, record_at=record_at)

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        return solves(key, target.with_features(_of_length_one), rate)

    return attack


def _of_length_one(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
