"""The head behind a singular map: what it gave before can only be approached, by least squares."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.label_directions import centred_columns, covariance_roots
from cimm_jax.closed_form.ridge import RidgePath, choose_ridge
from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.hessian import covariance
from cimm_jax.numerics.inputs import as_array, as_matrix, check_finite
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised
from cimm_jax.numerics.spectra import rounding_tolerance

__all__ = ["Refit", "is_singular", "refit"]


class Refit(NamedTuple):
    """A head on features x theta that comes nearest to another on x.

    Attributes:
      kernel: shape (d, C).
      shift: what its outputs lack on average, to be added to the bias, shape (C,).
      ridge: added to Cov(x), relative to its mean eigenvalue.
    """

    kernel: jax.Array
    shift: jax.Array
    ridge: jax.Array


def refit(theta: jax.Array, kernel: jax.Array, x: jax.Array, *, ridge: float | None = None) -> Refit:
    """The head W' that minimises E ||(x - mean)^T (theta W' - W)||^2, the shortest one; with Cov(x) + ridge for E. Pure.

    The ridge stands for inputs in all directions alike. So W is found again where theta leaves it, however few rows there are,
    and rows decide only what replaces the rest.

    Args:
      theta: the map, shape (d, d), of any rank, as `inputs.as_array` takes it.
      kernel: W, shape (d, C), the same.
      x: inputs before the map, shape (N, d), N at least 2, the same.
      ridge: relative to the mean eigenvalue of Cov(x); None takes the likeliest on held-out rows (`ridge.RidgePath`).

    Raises:
      InputError: if the shapes do not match or something concrete is not finite.
    """
    theta, kernel, x = as_matrix(theta, "theta"), as_array(kernel, "kernel"), as_matrix(x, "x")
    size = theta.shape[0]
    for name, array in (("theta", theta), ("kernel", kernel), ("x", x)):
        if array.ndim != 2 or array.shape[1 if name == "x" else 0] != size:
            raise InputError(f"{name}: has shape {array.shape}, which does not fit {size} features; see refit")
    check_finite(kernel, "kernel")
    inputs = centred_columns(normalised(x).values)
    chosen = _likeliest(choose_ridge(inputs)) if ridge is None else jnp.asarray(ridge, x.dtype)
    _, root = covariance_roots(covariance(inputs) / len(inputs), chosen)
    u, sigma, vt = svd(product(root, theta))
    kept = sigma > rounding_tolerance(size, sigma.dtype) * sigma[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, sigma, 1), 0)
    found = product(vt.T, inverse[:, None] * product(u.T, product(root, kernel)))
    return Refit(found, product(x.mean(0), kernel - product(theta, found)), chosen)


def is_singular(theta: np.ndarray) -> bool:
    """Whether rounding decides the smallest singular value of a concrete map of shape (d, d)."""
    theta = np.asarray(theta)
    return bool(np.linalg.matrix_rank(theta) < len(theta))


def _likeliest(path: RidgePath) -> jax.Array:
    return path.candidates[jnp.argmin(path.score)]
