"""The preconditioner K^{-1} of Algorithm 1, as an identity layer and as an optax transformation.

Theta enters a loss through X theta, so a gradient in theta is X^T (...) and K^{-1} = (X^T X)^{-1} multiplies it FROM
THE LEFT: K^{-1} grad. (The released code solves against the transposed gradient, which is grad K^{-1}.) For the
regularizers themselves K^{-1} cancels and `regularizers.well_direction` needs neither; this layer is for losses that
come as a function.

A singular K is inverted on its range only, so nothing is ever divided by zero; a relative ridge is available on top.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cimm_jax.errors import InputError
from cimm_jax.numerics.inputs import as_array
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import eigenpairs, rounding_tolerance

__all__ = [
    "Preconditioner",
    "apply_preconditioner",
    "precondition_gradient",
    "preconditioned_gram",
    "preconditioner",
    "scale_by_inverse_covariance",
]


class Preconditioner(NamedTuple):
    """K^{-1} on the range of K, decomposed once: K^{-1} g = vectors diag(inverse) vectors^T g.

    Attributes:
      vectors: eigenvectors of K in columns, shape (d, d).
      inverse: 1 / (eigenvalue + ridge), shape (d,); zero where both are zero.
    """

    vectors: jax.Array
    inverse: jax.Array


def preconditioner(k: jax.Array, *, relative_ridge: float = 0.0) -> Preconditioner:
    """Decomposes K for use in `precondition_gradient`.

    Args:
      k: covariance, shape (d, d), symmetric positive semi-definite, as `inputs.as_array` takes it.
      relative_ridge: the ridge in units of K's mean eigenvalue; 0 inverts K on its range.

    Raises:
      InputError: if k is not a square matrix or the ridge is negative or NaN.
    """
    k = as_array(k, "k")
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not k.size:
        raise InputError(f"k: needs shape (d, d), got {k.shape}; give a covariance matrix")
    if not 0 <= relative_ridge < float("inf"):
        raise InputError(f"relative_ridge: needs a finite number of at least 0, got {relative_ridge}")
    sigma, vectors = eigenpairs(jax.lax.stop_gradient(k))
    ridged = sigma + relative_ridge * sigma.mean()
    invertible = ridged > rounding_tolerance(sigma.shape[0], sigma.dtype) * ridged[0]
    return Preconditioner(vectors, jnp.where(invertible, 1 / jnp.where(invertible, ridged, 1), 0))


def apply_preconditioner(p: Preconditioner, gradient: jax.Array) -> jax.Array:
    """K^{-1} gradient, for a gradient of shape (d, ...)."""
    flat = gradient.reshape(gradient.shape[0], -1)
    with jax.default_matmul_precision("highest"):
        return (p.vectors @ (p.inverse[:, None] * (p.vectors.T @ flat))).reshape(gradient.shape)


@jax.custom_vjp
def precondition_gradient(theta: jax.Array, p: Preconditioner) -> jax.Array:
    """The identity on theta, shape (d, m), whose backward pass multiplies the cotangent by K^{-1} from the left.

    >>> import jax, jax.numpy as jnp
    >>> k = jnp.diag(jnp.array([4.0, 1.0]))
    >>> loss = lambda theta: jnp.sum(k @ precondition_gradient(theta, preconditioner(k)))
    >>> jax.grad(loss)(jnp.ones((2, 1))).ravel().tolist()  # K^{-1} K 1
    [1.0, 1.0]
    """
    del p
    return theta


def _precondition_forward(theta, p):
    return theta, p


def _precondition_backward(p, cotangent):
    return apply_preconditioner(p, cotangent), jax.tree.map(jnp.zeros_like, p)


precondition_gradient.defvjp(_precondition_forward, _precondition_backward)


def scale_by_inverse_covariance(k: jax.Array, *, relative_ridge: float = 0.0) -> optax.GradientTransformation:
    """K^{-1} as an optax transformation: chain it before any optimizer.

    Use `optax.masked` for parameters that it is not for.

    Args:
      k: covariance, shape (d, d).
      relative_ridge: as in `preconditioner`.

    Raises:
      InputError: as `preconditioner`; and on `init`, if a parameter's leading axis is not d.
    """
    p = preconditioner(k, relative_ridge=relative_ridge)

    def init(params):
        for leaf in jax.tree.leaves(params):
            if np.ndim(leaf) < 1 or np.shape(leaf)[0] != p.inverse.shape[0]:
                raise InputError(
                    f"params: a leaf has shape {np.shape(leaf)} and k has {p.inverse.shape[0]} rows; "
                    "the leading axis must match, so wrap the transformation in optax.masked"
                )
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda g: apply_preconditioner(p, g), updates), state

    return optax.GradientTransformation(init, update)


def preconditioned_gram(features: jax.Array) -> jax.Array:
    """S = F^T F behind an identity layer that multiplies the gradient of F, shape (B, d), by S^{-1} from the right.

    S^{-1} is taken on S's range. A gradient F V diag(c_i sigma_i) V^T, as the regularizers have it, becomes F V diag(c_i) V^T:
    every direction moves at its own scale (Eq. 18 of Zheng et al., 2025).
    """
    frozen = jax.lax.stop_gradient(features)
    layer = preconditioner(product(frozen.T, frozen))
    layered = precondition_gradient(features.T, layer).T
    return product(layered.T, layered)
