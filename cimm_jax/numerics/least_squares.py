"""The best linear probe of a task, by least squares."""

import jax
import jax.numpy as jnp

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.inputs import as_task
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised, scaled
from cimm_jax.numerics.spectra import rounding_tolerance
from cimm_jax.tasks import Task

__all__ = ["probe_loss"]


def probe_loss(fit_on: Task, judged_on: Task, amplification: float | jax.Array = 1.0) -> jax.Array:
    """Mean squared error on one task of the least-squares probe of another (the shortest solution); a scalar.

    Features may have any scale, since a probe on them has the inverse one; the error has that of the targets, squared.

    Args:
      fit_on: features of shape (N, d) and targets of shape (N,) or (N, C) that the probe is fitted on, as `inputs.as_array`
        takes them.
      judged_on: features and targets that it is judged on, of the same d and C.
      amplification: `spectra.product_amplification` of the rows fitted on, where they are a product.

    Raises:
      InputError: if a task has no targets or no rows, or shapes do not match.
    """
    fit_on, judged_on = _probed(fit_on, "fit_on"), _probed(judged_on, "judged_on")
    if fit_on.x.shape[1] != judged_on.x.shape[1] or fit_on.y.shape[1:] != judged_on.y.shape[1:]:
        raise InputError(
            f"judged_on: has inputs {judged_on.x.shape} and targets {judged_on.y.shape}, fit_on {fit_on.x.shape} and "
            f"{fit_on.y.shape}; give the same features and classes"
        )
    return _residual(fit_on, judged_on, amplification)


@jax.jit
def _residual(fit_on: Task, judged_on: Task, amplification: float | jax.Array) -> jax.Array:
    features, exponent = normalised(fit_on.x)
    u, sigma, vt = svd(features)
    kept = sigma > rounding_tolerance(max(features.shape), sigma.dtype) * amplification * sigma[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, sigma, 1), 0)
    targets = fit_on.y.reshape(fit_on.y.shape[0], -1)
    probe = product(vt.T, inverse[:, None] * product(u.T, targets)).reshape(-1, *fit_on.y.shape[1:])
    return jnp.mean(jnp.square(product(scaled(judged_on.x, -exponent), probe) - judged_on.y))


def _probed(task: Task, name: str) -> Task:
    """The task as arrays of JAX with inputs, targets and at least one row."""
    if task.y is None:
        raise InputError(f"{name}.y: is None; give targets")
    x, y = as_task(task, name)
    if x.ndim != 2 or y.ndim not in (1, 2) or x.shape[0] != y.shape[0] or not x.size:
        raise InputError(
            f"{name}: needs inputs (rows, features) and targets (rows,) or (rows, C), got {x.shape} and {y.shape}"
        )
    return Task(x, y)
