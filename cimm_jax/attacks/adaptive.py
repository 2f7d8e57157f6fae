"""Attackers who know that the features were mapped, or simply do what good practice tells them: rescale, whiten, solve.

The first kind changes the features and hands them to another attacker; the second needs no steps at all. What they learn,
they learn from the rows they fit on.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks._linear_probe import check_loss, measure
from cimm_jax.attacks.problem import column_targets, make_problem
from cimm_jax.attacks.protocol import Attack, Factors, Target, Trace, check_records
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses
from cimm_jax.numerics.decompositions import svd
from cimm_jax.numerics.products import product
from cimm_jax.numerics.spectra import rounding_tolerance

__all__ = [
    "HEAVIEST_EXPONENT",
    "RIDGES",
    "normal_equations",
    "ridge_probe",
    "ridge_probe_of_factors",
    "standardised",
    "undone",
    "whitened",
]

RIDGES = 40
HEAVIEST_EXPONENT = 2.0
"""Ridges are relative to the largest eigenvalue of F^T F, from the square of the dtype's rounding up to 10 to this power:
ill-conditioned features hide their labels below any fixed number."""


def standardised(attack: Attack) -> Attack:
    """Divides every feature by its root mean square first; without an intercept there is nothing to centre."""

    def through(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        size = jnp.sqrt(jnp.mean(target.fit.x**2, axis=0))
        scale = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
        return attack(key, target.with_features(lambda x: x * scale[None, :]), rate)

    return through


def whitened(attack: Attack, *, top_k: int | None = None) -> Attack:
    """Whitens by the principal directions first, all or the `top_k` strongest; the others are dropped."""
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k: needs at least 1, got {top_k}")

    def through(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        u, sigma, vt = target.decomposed()
        counts = sigma > rounding_tolerance(max(target.fit.x.shape), sigma.dtype) * sigma[0]
        if top_k is not None:
            counts &= jnp.arange(len(sigma), dtype=jnp.int32) < top_k
        size = len(u) ** 0.5
        unmix = vt.T * jnp.where(counts, size / jnp.where(counts, sigma, 1), 0)[None, :]
        factors = Factors(u, jnp.where(counts, size, 0).astype(sigma.dtype), jnp.eye(len(sigma), dtype=sigma.dtype))
        return attack(key, target.with_features(lambda x: product(x, unmix), factors), rate)

    return through


def undone(attack: Attack) -> Attack:
    """Multiplies by the pseudo-inverse of the target's `mapping` first: the attacker has stripped it.

    The attack raises `InputError` for a target without one.
    """

    def through(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        if target.mapping is None:
            raise InputError("target.mapping: is None; give the extractor that the attacker is to undo")
        u, sigma, vt = svd(target.mapping)
        counts = sigma > rounding_tolerance(max(target.mapping.shape), sigma.dtype) * sigma[0]
        inverse = product(vt.T * jnp.where(counts, 1 / jnp.where(counts, sigma, 1), 0)[None, :], u.T)
        return attack(key, target.with_features(lambda x: product(x, inverse)), rate)

    return through


def normal_equations(
    *, steps: int = 1000, loss: losses.Loss = losses.squared, record_at: Sequence[int] | None = None
) -> Attack:
    """Ridge regression in closed form, the ridge chosen by leave-one-out cross-validation; the rate is not used.

    Fits the squared loss whatever the loss it is judged by. It is done after one step: every record is the same.
    """
    recorded = check_records(record_at, steps)
    check_loss(loss)

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        del key, rate
        target = column_targets(target)
        problem = make_problem(target, loss, rows=True, axes=True)
        judged = measure(problem, ridge_probe_of_factors(target.decomposed(), target.fit.y), target, loss)
        return jax.tree.map(lambda value: jnp.broadcast_to(value, (len(recorded),)), judged)

    return attack


def ridge_probe(x: jax.Array, y: jax.Array) -> jax.Array:
    """The ridge-regression probe, shape (d, C), with the least leave-one-out error over 40 ridges.

    With F = U S V^T and shrinkage h = s^2 / (s^2 + ridge), row i left out is missed by its residual / (1 - sum_k h_k U_ik^2).
    """
    return ridge_probe_of_factors(Factors(*svd(x)), y)


def ridge_probe_of_factors(
    factors: Factors, y: jax.Array, *, centred: bool = False, times: jax.Array | float = 1.0
) -> jax.Array:
    """The same of features that are decomposed already.

    Args:
      factors: of the features, shape (N, d).
      y: targets, shape (N, C).
      centred: whether features and targets were centred by their means, as a probe with an intercept wants it: then a row's
        share of those means is left out with it, and 1 / N of its residual's denominator goes too.
      times: the ridge that is taken, over the one that leave-one-out errors choose, a scalar.
    """
    u, sigma, vt = factors
    counts = sigma > rounding_tolerance(max(u.shape[0], vt.shape[1]), sigma.dtype) * sigma[0]
    relative = jnp.where(counts, sigma / sigma[0], 0)
    lightest = 2 * float(np.log10(jnp.finfo(sigma.dtype).eps))
    ridges = jnp.logspace(lightest, HEAVIEST_EXPONENT, RIDGES, dtype=sigma.dtype)
    shrinkage = relative[None, :] ** 2 / (relative[None, :] ** 2 + ridges[:, None])
    coefficients = product(u.T, y)
    of_the_means = 1 / len(y) if centred else 0.0

    def left_out_error(shrinkage: jax.Array) -> jax.Array:
        residual = y - product(u, shrinkage[:, None] * coefficients)
        kept = 1 - of_the_means - product(u**2, shrinkage)
        usable = kept > len(y) * float(jnp.finfo(sigma.dtype).eps)
        return jnp.where(usable.all(), jnp.sum((residual / jnp.where(usable, kept, 1)[:, None]) ** 2), jnp.inf)

    chosen = times * ridges[jnp.argmin(jax.lax.map(left_out_error, shrinkage))]
    best = relative**2 / (relative**2 + chosen)
    return product(vt.T, (best * jnp.where(counts, 1 / jnp.where(counts, sigma, 1), 0))[:, None] * coefficients)
