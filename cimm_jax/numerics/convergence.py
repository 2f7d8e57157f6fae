"""How fast gradient descent fits a linear probe: exact recurrences in the eigenbasis of its Hessian.

With features F = U diag(sqrt(h)) W^T and an l2 loss, gradient descent from a zero probe keeps the part of the targets along
each u_i apart: a step of length alpha multiplies it by (1 - alpha h_i). What is left of the excess loss (the loss above that
of the best probe) is therefore sum_i e_i r_i^2 with e_i the label energy ||u_i^T Y||^2, and exact line search, which
minimises it along the gradient, chooses alpha = sum h e r^2 / sum h^2 e r^2. Several targets (classes) share one alpha, so
their energies add. No matrix is touched during the steps.

Only ratios of curvatures and of energies matter, so both are in units of their own (`scaling`): no square leaves the range of
numbers. NaN stays NaN.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.inputs import as_array, as_matrix, check_finite
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised
from cimm_jax.numerics.spectra import above_rounding

__all__ = [
    "ProbeProblem",
    "check_horizons",
    "excess_curve",
    "excess_left",
    "label_energy",
    "line_search_curve",
    "line_search_left",
    "probe_problem",
]


class ProbeProblem(NamedTuple):
    """A least-squares probe in the eigenbasis of its Hessian.

    Attributes:
      curvature: eigenvalues h of F^T F but for a common factor, shape (..., r); zero for directions that do not count.
      energy: label energy along each but for a common factor, shape (..., r); zero where the curvature is.
    """

    curvature: jax.Array
    energy: jax.Array


def probe_problem(features: jax.Array, targets: jax.Array, amplification: float | jax.Array = 1.0) -> ProbeProblem:
    """The problem of an l2 probe on features of shape (N, d) with targets of shape (N,) or (N, C); r = min(N, d).

    `amplification` is that of `spectra.product_amplification` where the features are a product x theta: the directions that x
    lacks are no features, however much a whitening theta makes of their rounding errors.
    """
    u, sigma, _ = svd(normalised(features).values)
    counts = above_rounding(sigma, min(features.shape), amplification) | jnp.isnan(sigma)
    energy = label_energy(normalised(product(u.T, targets.reshape(len(targets), -1))).values)
    return ProbeProblem(jnp.where(counts, sigma**2, 0), jnp.where(counts, energy, 0))


def label_energy(coefficients: jax.Array) -> jax.Array:
    """Squares of coefficients of shape (..., r, C), summed over the targets: shape (..., r)."""
    return jnp.square(coefficients).sum(-1)


def line_search_left(problem: ProbeProblem, horizons: Sequence[int]) -> jax.Array:
    """Share of the excess loss left after each number of steps of gradient descent with exact line search.

    Args:
      problem: any batch of problems.
      horizons: numbers of steps, ascending (`check_horizons`); static.

    Returns:
      Shape (..., len(horizons)), 1 where nothing was learned; 0 for a problem without label energy.
    """
    left = _residuals(problem, horizons)
    return jnp.stack([_share(problem.energy, residual) for residual in left], -1)


def line_search_curve(problem: ProbeProblem, steps: int) -> jax.Array:
    """Share of the excess loss left after 0, 1, ..., `steps` steps of exact line search; shape (..., steps + 1)."""
    problem = _scaled(problem)

    def record(residual, _):
        return _step(problem, residual), _share(problem.energy, residual)

    curve = jax.lax.scan(record, jnp.ones_like(problem.energy), length=steps + 1)[1]
    return jnp.moveaxis(curve, 0, -1)


def check_horizons(horizons: Sequence[int], argument: str) -> tuple[int, ...]:
    """The horizons as an ascending tuple without repeats; raises `InputError` unless each is at least 1."""
    for steps in horizons:
        if steps < 1:
            raise InputError(f"{argument}: needs numbers of steps of at least 1, got {steps}")
    return tuple(sorted(set(horizons)))


def _residuals(problem: ProbeProblem, horizons: Sequence[int]) -> list[jax.Array]:
    problem = _scaled(problem)
    residual, found = jnp.ones_like(problem.energy), []
    for start, stop in zip((0, *horizons), horizons, strict=False):
        residual = jax.lax.fori_loop(start, stop, lambda _, residual: _step(problem, residual), residual)
        found.append(residual)
    return found


def _scaled(problem: ProbeProblem) -> ProbeProblem:
    """The same with largest curvature and energy 1: only ratios matter, and float32 squares cannot overflow."""
    return ProbeProblem(*(values / _safe(values.max(-1, keepdims=True)) for values in problem))


def _step(problem: ProbeProblem, residual: jax.Array) -> jax.Array:
    along = problem.curvature * problem.energy * residual**2
    above, below = along.sum(-1, keepdims=True), (problem.curvature * along).sum(-1, keepdims=True)
    # A finished problem (nothing left along any direction) stays where it is.
    alpha = jnp.where(below > 0, above / _safe(below), 0)
    return residual * (1 - alpha * problem.curvature)


def _share(energy: jax.Array, residual: jax.Array) -> jax.Array:
    return (energy * residual**2).sum(-1) / _safe(energy.sum(-1))


def _safe(values: jax.Array) -> jax.Array:
    return jnp.where(values > 0, values, 1)


def excess_left(
    features: jax.Array, targets: jax.Array, horizons: Sequence[int], amplification: float | jax.Array = 1.0
) -> jax.Array:
    """`line_search_left` of a probe on features of shape (N, d) with targets (N,) or (N, C); shape (len(horizons),).

    Args:
      features: as `inputs.as_array` takes them.
      targets: the same.
      horizons: numbers of steps, ascending, at least 1.
      amplification: as in `probe_problem`.

    Raises:
      InputError: if shapes do not match, an entry is no real number or, when it is concrete, not finite, or the horizons do
        not ascend.
    """
    horizons = tuple(horizons)
    if horizons != check_horizons(horizons, "horizons"):
        raise InputError(f"horizons: need to ascend without repeats, got {horizons}")
    return _excess_left(*_checked(features, targets), horizons, amplification)


def excess_curve(
    features: jax.Array, targets: jax.Array, steps: int, amplification: float | jax.Array = 1.0
) -> jax.Array:
    """`line_search_curve` of a probe on features of shape (N, d); shape (steps + 1,); arguments as in `excess_left`.

    Raises:
      InputError: as `excess_left`, or if the number of steps is negative.
    """
    if steps < 0:
        raise InputError(f"steps: needs at least 0, got {steps}")
    return _excess_curve(*_checked(features, targets), steps, amplification)


def _checked(features: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    features, targets = as_matrix(features, "features"), as_array(targets, "targets")
    check_finite(targets, "targets")
    if features.ndim != 2 or targets.ndim not in (1, 2) or len(features) != len(targets) or not targets.size:
        raise InputError(
            f"targets: need shape (N,) or (N, C) for features of shape (N, d), got {targets.shape} and {features.shape}"
        )
    return features, targets.astype(features.dtype)


@partial(jax.jit, static_argnums=2)
def _excess_curve(features, targets, steps, amplification):
    return line_search_curve(probe_problem(features, targets, amplification), steps)


@partial(jax.jit, static_argnums=2)
def _excess_left(features, targets, horizons, amplification):
    return line_search_left(probe_problem(features, targets, amplification), horizons)
