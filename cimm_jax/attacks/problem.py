"""The problem that an optimizer is given, made as small as its answer allows.

Full-batch steps on the squared loss see the features F = U S V^T only through S V^T and U^T Y: N rows become at most d, and
the part of Y outside the range of U is a constant. The gradient is that of the normal equations, one product where features and
their transpose are two. An optimizer that commutes with rotations of the probe (plain gradient
descent with any momentum, line searches, conjugate gradient, L-BFGS) may work on c = V^T w, where the features are the
diagonal S and a step costs O(d). Both are exact; only rounding differs.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.attacks.protocol import Target
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses
from cimm_jax.numerics.products import product

__all__ = ["CURVATURE_BOUND", "NormalEquations", "Problem", "column_targets", "make_problem"]

CURVATURE_BOUND: dict[losses.Loss, float] = {losses.squared: 1.0, losses.logistic: 0.25, losses.softmax: 0.5}
"""Largest second derivative of each loss in a score, which bounds the Hessian by that times F^T F / N."""


class NormalEquations(NamedTuple):
    """X^T X W = X^T Y, made once for all steps.

    Attributes:
      gram: X^T X, shape (d, d).
      pulled: X^T Y, shape (d, C).
    """

    gram: jax.Array
    pulled: jax.Array


class Problem(NamedTuple):
    """What an optimizer may know.

    Attributes:
      x: features, shape (n, d), or (d,) for a diagonal of them.
      y: targets, shape (n, C).
      offset: what the loss of the rows lacks; a scalar.
      basis: probe = basis @ variable, shape (d', d); None if they are the same.
      start: the zero variable, shape (d, C).
      largest: bound on the largest eigenvalue of the loss's Hessian.
      smallest: the same bound times sigma_min^2 / sigma_max^2 over the non-zero singular values.
      best: least-squares variable, shape (d, C).
      normal: of the squared loss where the axes of the features are kept; None elsewhere.
    """

    x: jax.Array
    y: jax.Array
    offset: jax.Array
    basis: jax.Array | None
    start: jax.Array
    largest: jax.Array
    smallest: jax.Array
    best: jax.Array
    normal: NormalEquations | None = None

    def value(self, variable: jax.Array, loss: losses.Loss) -> jax.Array:
        """The loss, a scalar."""
        return loss(self.scores(variable), self.y) + self.offset

    def value_and_gradient(self, variable: jax.Array, loss: losses.Loss) -> tuple[jax.Array, jax.Array]:
        """The loss, a scalar, and its gradient, shape (d, C).

        With X^T X the loss is 1/2 <W, X^T X W - 2 X^T Y> + 1/2 |Y|^2 over the number of targets: near its least it is right to
        rounding of |Y|^2, enough to see that it grows.
        """
        if self.normal is None:
            return jax.value_and_grad(self.value)(variable, loss)
        image, pulled = product(self.normal.gram, variable), self.normal.pulled
        value = (jnp.sum(variable * (image - 2 * pulled)) + jnp.sum(self.y**2)) / (2 * self.y.size) + self.offset
        return value, (image - pulled) / self.y.size

    def scores(self, variable: jax.Array) -> jax.Array:
        """Shape (n, C)."""
        return self.x[:, None] * variable if self.x.ndim == 1 else product(self.x, variable)

    def transposed(self, scores: jax.Array) -> jax.Array:
        """X^T scores, shape (d, C)."""
        return self.x[:, None] * scores if self.x.ndim == 1 else product(self.x.T, scores)

    def probe(self, variable: jax.Array) -> jax.Array:
        """The variable as a probe on the features given, shape (d', C)."""
        return variable if self.basis is None else product(self.basis, variable)


def column_targets(target: Target) -> Target:
    """Targets of shape (N,) as (N, 1)."""
    fit, heldout = (task._replace(y=task.y.reshape(task.y.shape[0], -1)) for task in (target.fit, target.heldout))
    return target._replace(fit=fit, heldout=heldout)


def make_problem(target: Target, loss: losses.Loss, *, rows: bool, axes: bool) -> Problem:
    """The problem on the rows fitted; targets are (N, C).

    Args:
      target: the features.
      loss: one of `CURVATURE_BOUND`.
      rows: keep the rows as they are, for minibatches; other losses than the squared one always do.
      axes: keep the axes of the features, for optimizers that look at them.

    Raises:
      InputError: if the loss is softmax and there is one class, so that every probe is as good as any other.
    """
    x, y = target.fit.x, target.fit.y
    if loss is losses.softmax and y.shape[1] < 2:
        raise InputError(f"loss: softmax needs targets of shape (N, C) with C > 1, got C = {y.shape[1]}; use logistic")
    u, sigma, vt = target.decomposed()
    kept = sigma > 0
    coefficients = product(u.T, y)
    best = jnp.where(kept, 1 / jnp.where(kept, sigma, 1), 0)[:, None] * coefficients
    bound = CURVATURE_BOUND[loss] / (len(y) if loss is losses.softmax else y.size)
    largest = bound * sigma[0] ** 2
    smallest = bound * jnp.where(kept, sigma, sigma[0]).min() ** 2
    if rows or loss is not losses.squared:
        best = product(vt.T, best)
        return Problem(x, y, jnp.zeros((), x.dtype), None, jnp.zeros_like(best), largest, smallest, best)
    # The mean over fewer rows must be the same mean.
    scale = (len(sigma) / len(y)) ** 0.5
    outside = y - product(u, coefficients)
    offset = 0.5 * jnp.sum(outside**2) / y.size
    # Directions at rounding level are none: their part of the targets stays in the loss, and nobody can fit it.
    reduced, coefficients = scale * jnp.where(kept, sigma, 0), scale * coefficients
    if axes:
        best, x = product(vt.T, best), reduced[:, None] * vt
        cheaper = x.shape[1] < 2 * x.shape[0]
        normal = NormalEquations(product(x.T, x), product(x.T, coefficients)) if cheaper else None
        return Problem(x, coefficients, offset, None, jnp.zeros_like(best), largest, smallest, best, normal)
    return Problem(reduced, coefficients, offset, vt.T, jnp.zeros_like(best), largest, smallest, best)
