"""Attackers who know that the features were mapped, or simply do what good practice tells them: rescale, whiten, solve.

The first kind changes the features and hands them to another attacker; the second needs no steps at all. What they learn,
they learn from the rows they fit on.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from cimm_jax import losses
from cimm_jax.attacks.protocol import Attack, Target, Trace, accuracy
from cimm_jax.decompositions import right_svd, svd
from cimm_jax.errors import InputError
from cimm_jax.spectra import rounding_tolerance

_HIGHEST = jax.lax.Precision.HIGHEST

FOLDS = 5
RIDGES = tuple(10.0**exponent for exponent in range(-12, 3))
"""Relative to the largest eigenvalue of F^T F."""


def standardised(attack: Attack) -> Attack:
    """Divides every feature by its root mean square first; without an intercept there is nothing to centre."""

    def scaling(x: jax.Array) -> jax.Array:
        size = jnp.sqrt(jnp.mean(x**2, axis=0))
        return jnp.diag(jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0))

    return _mapped(attack, scaling)


def whitened(attack: Attack, *, top_k: int | None = None) -> Attack:
    """Whitens by the principal directions first, all or the `top_k` strongest; the others are dropped."""
    if top_k is not None and top_k < 1:
        raise InputError(f"top_k: needs at least 1, got {top_k}")

    def whitening(x: jax.Array) -> jax.Array:
        sigma, vt = right_svd(x)
        counts = sigma > rounding_tolerance(max(x.shape), sigma.dtype) * sigma[0]
        if top_k is not None:
            counts &= jnp.arange(len(sigma), dtype=jnp.int32) < top_k
        weights = jnp.where(counts, len(x) ** 0.5 / jnp.where(counts, sigma, 1), 0)
        return vt.T * weights[None, :]

    return _mapped(attack, whitening)


def undone(attack: Attack, theta: jax.Array) -> Attack:
    """Multiplies by the pseudo-inverse of a known map first: the attacker has stripped it."""

    def inverse(x: jax.Array) -> jax.Array:
        del x
        u, sigma, vt = svd(jnp.asarray(theta))
        counts = sigma > rounding_tolerance(max(theta.shape), sigma.dtype) * sigma[0]
        return jnp.matmul(
            vt.T * jnp.where(counts, 1 / jnp.where(counts, sigma, 1), 0)[None, :], u.T, precision=_HIGHEST
        )

    return _mapped(attack, inverse)


def normal_equations(*, records: Sequence[int] = (1,), loss: losses.Loss = losses.squared) -> Attack:
    """Ridge regression in closed form, the ridge chosen by five-fold cross-validation: one step, whatever was asked for.

    Fits the squared loss whatever the loss it is judged by; every record of the trace is the same.
    """

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        del key, rate
        fit, heldout = (task._replace(y=task.y.reshape(task.y.shape[0], -1)) for task in target)
        probe = _ridge_probe(fit.x, fit.y)
        best = _solve(fit.x, fit.y, jnp.zeros((1,), fit.x.dtype))[0]
        scores, heldout_scores = (jnp.matmul(task.x, probe, precision=_HIGHEST) for task in (fit, heldout))
        ratio = jnp.sum((probe - best) ** 2) / jnp.sum(best**2)
        values = (
            loss(scores, fit.y),
            loss(heldout_scores, heldout.y),
            accuracy(heldout_scores, heldout.y),
            ratio if loss is losses.squared else jnp.full_like(ratio, jnp.nan),
            jnp.zeros((), bool),
        )
        return Trace(*(jnp.broadcast_to(value, (len(records),)) for value in values))

    return attack


def _mapped(attack: Attack, mapping: Callable[[jax.Array], jax.Array]) -> Attack:
    """The attack on features times mapping(features of the rows it fits on)."""

    def through(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        matrix = mapping(target.fit.x)
        tasks = (task._replace(x=jnp.matmul(task.x, matrix, precision=_HIGHEST)) for task in target)
        return attack(key, Target(*tasks), rate)

    return through


def _ridge_probe(x: jax.Array, y: jax.Array) -> jax.Array:
    """Shape (d, C): the ridge with the smallest cross-validated error, refitted on all rows."""
    ridges = jnp.asarray(RIDGES, x.dtype)
    folds = min(FOLDS, len(x))
    errors = []
    for fold in range(folds):
        others = [other for other in range(folds) if other != fold]
        rows, targets = (jnp.concatenate([part[other::folds] for other in others]) for part in (x, y))
        scores = jnp.einsum("nd,rdc->rnc", x[fold::folds], _solve(rows, targets, ridges), precision=_HIGHEST)
        errors.append(jnp.sum((scores - y[fold::folds][None]) ** 2, axis=(1, 2)))
    best = jnp.argmin(sum(errors[1:], errors[0]))
    return _solve(x, y, ridges[best][None])[0]


def _solve(x: jax.Array, y: jax.Array, ridges: jax.Array) -> jax.Array:
    """Ridge regression for each relative ridge (0: the shortest least-squares probe), shape (ridges, d, C)."""
    u, sigma, vt = svd(x)
    counts = sigma > rounding_tolerance(max(x.shape), sigma.dtype) * sigma[0]
    shrunk = sigma[None, :] / (sigma[None, :] ** 2 + ridges[:, None] * sigma[0] ** 2)
    weights = jnp.where(counts[None, :], shrunk, 0)
    coefficients = jnp.matmul(u.T, y, precision=_HIGHEST)
    return jnp.einsum("rk,kd,kc->rdc", weights, vt, coefficients, precision=_HIGHEST)
