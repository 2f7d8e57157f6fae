"""The best linear probe of a task, by least squares."""

import jax
import jax.numpy as jnp

from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import rounding_tolerance
from cimm_jax.tasks import Task

__all__ = ["probe_loss"]


def probe_loss(fit_on: Task, judged_on: Task, amplification: float | jax.Array = 1.0) -> jax.Array:
    """Mean squared error on one task of the least-squares probe of another (the shortest solution); a scalar.

    Args:
      fit_on: features of shape (N, d) and targets of shape (N,) or (N, C) that the probe is fitted on.
      judged_on: features and targets that it is judged on, of the same d and C.
      amplification: `spectra.product_amplification` of the rows fitted on, where they are a product.
    """
    u, sigma, vt = svd(fit_on.x)
    kept = sigma > rounding_tolerance(max(fit_on.x.shape), sigma.dtype) * amplification * sigma[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, sigma, 1), 0)
    targets = fit_on.y.reshape(fit_on.y.shape[0], -1)
    probe = product(vt.T, inverse[:, None] * product(u.T, targets)).reshape(-1, *fit_on.y.shape[1:])
    return jnp.mean(jnp.square(product(judged_on.x, probe) - judged_on.y))
