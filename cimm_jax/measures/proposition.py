"""Proposition 3.2 of the paper, and how far from true it is."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.hessian import probe_hessian
from cimm_jax.numerics.inputs import as_matrix
from cimm_jax.numerics.products import HIGHEST, product
from cimm_jax.numerics.scaling import normalised, scaled

__all__ = ["Proposition32", "proposition_3_2"]


class Proposition32(NamedTuple):
    """Proposition 3.2 and how far from true it is.

    Attributes:
      values: sum_j (sigma_theta,i (u_theta,i^T q_j) sqrt(gamma_j))^2 for each i, shape (min(d, m),), in theta's order.
      off_diagonal: ||offdiag(V^T H V)||_F / ||H||_F, V the right singular vectors of theta: the formula gives the singular
        values of H exactly when this is zero.
    """

    values: jax.Array
    off_diagonal: jax.Array


def proposition_3_2(theta: jax.Array, k: jax.Array) -> Proposition32:
    """The paper's formula for the singular values of H(theta) = theta^T K theta.

    What it computes is the diagonal of V^T H V, V the right singular vectors of theta. Those are the singular values of H
    if and only if V^T H V is diagonal; for an invertible theta, if and only if theta's left singular vectors are
    eigenvectors of K, that is, theta theta^T commutes with K. For other theta the values still sum to the trace of H, and
    the largest of them is at most sigma_1(H).

    Args:
      theta: extractor, shape (d, m), as `inputs.as_array` takes it.
      k: covariance, shape (d, d), the same.

    Raises:
      InputError: if shapes do not match, or an entry is no real number or, when it is concrete, not finite.
    """
    (theta, of_theta), (k, of_k) = normalised(as_matrix(theta, "theta")), normalised(as_matrix(k, "k"))
    h = probe_hessian(theta, k)
    u, sigma, vt = svd(theta)
    values = sigma**2 * jnp.einsum("di,de,ei->i", u, k, u, precision=HIGHEST)
    rotated = product(product(vt, h), vt.T)
    off = rotated - jnp.diag(jnp.diagonal(rotated))
    return Proposition32(scaled(values, 2 * of_theta + of_k), jnp.linalg.norm(off) / jnp.linalg.norm(h))
