"""The head that a Gaussian kernel makes: nonlinear, in closed form."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cimm_jax.attacks.adaptive import ridge_probe_of_factors
from cimm_jax.attacks.heads._features import features_in_use, standardised_target
from cimm_jax.attacks.heads._judging import at_every_record, judged
from cimm_jax.attacks.protocol import Attack, Factors, Target, Trace, check_records
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses
from cimm_jax.numerics.decompositions import eigh
from cimm_jax.numerics.distances import squared_distances
from cimm_jax.numerics.products import product

_LEAST_EIGENVALUE_IN_EPS = 5.0
"""Relative to the largest: what rounding leaves of a zero eigenvalue stays below. A bound for the worst case grows with the
matrix, and would cut off most of what a smooth kernel sees."""


def kernel_ridge(*, steps: int = 1, record_at: Sequence[int] | None = None, centres: int = 512) -> Attack:
    """Kernel ridge regression with exp(-|a - b|^2 / (width d)) on standardised features; the rate is the width.

    d counts the features that vary, and the kernel is centred. With more rows than `centres`, it is Nystrom's,
    K_nm K_mm^+ K_mn with m of the rows, drawn by the key. Its features K_nm K_mm^(-1/2) go to a ridge regression, with the
    ridge of the least leave-one-out error and an intercept, which no ridge shrinks. Losses are squared ones of the scores.
    It is done after one step: every record is the same.

    Args:
      steps: to report, at least 1.
      record_at: ascending numbers of steps to record; None spaces 40 of them evenly in log.
      centres: m, at least 1; with no more rows than that, all of them are, and the key is not used.

    Raises:
      InputError: if a number is out of range.
    """
    recorded = check_records(record_at, steps)
    if centres < 1:
        raise InputError(f"centres: needs at least 1, got {centres}")

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        target = standardised_target(target)
        x, y = target.fit
        at = x if len(x) <= centres else x[jax.random.choice(key, len(x), (centres,), replace=False)]
        width = rate * features_in_use(x)
        kernel = _less_one(at, at, width)
        means = kernel.mean(0, keepdims=True)
        unmix = _root_of_inverse(_centred(kernel, means))
        features, heldout = (
            product(_centred(_less_one(task.x, at, width), means), unmix) for task in (target.fit, target.heldout)
        )
        centre, mean = features.mean(0, keepdims=True), y.mean(0, keepdims=True)
        probe = ridge_probe_of_factors(_factors(features - centre), y - mean, centred=True)
        fitted, judged_on = (mean + product(part - centre, probe) for part in (features, heldout))
        return at_every_record(judged(losses.squared, fitted, judged_on, target), recorded)

    return attack


def _less_one(a: jax.Array, b: jax.Array, width: jax.Array) -> jax.Array:
    """The kernel minus 1, (N, M): centring takes the 1 away, and a wide kernel would lose its digits to it."""
    return jnp.expm1(-squared_distances(a, b) / width)


def _centred(kernel: jax.Array, means: jax.Array) -> jax.Array:
    """The kernel (N, m) of points less the centres' mean; `means`, (1, m), are those of the centres' own kernel."""
    return kernel - kernel.mean(1, keepdims=True) - means + means.mean(1, keepdims=True)


def _root_of_inverse(kernel: jax.Array) -> jax.Array:
    """R with R R^T the pseudo-inverse of a positive semi-definite kernel, (m, m); columns are zero where rounding decides."""
    values, vectors = eigh(kernel)
    counts = _above_rounding(values, values[-1])
    return vectors * jnp.where(counts, jax.lax.rsqrt(jnp.where(counts, values, 1)), 0)[None, :]


def _factors(x: jax.Array) -> Factors:
    """The singular value decomposition of x, (N, m), by way of x^T x: for ridges that are above its rounding anyway."""
    values, vectors = eigh(product(x.T, x))
    values, vectors = values[::-1], vectors[:, ::-1]
    counts = _above_rounding(values, values[0])
    sigma = jnp.sqrt(jnp.where(counts, values, 0))
    return Factors(
        product(x, vectors) * jnp.where(counts, 1 / jnp.where(counts, sigma, 1), 0)[None, :], sigma, vectors.T
    )


def _above_rounding(values: jax.Array, largest: jax.Array) -> jax.Array:
    return values > _LEAST_EIGENVALUE_IN_EPS * float(jnp.finfo(values.dtype).eps) * largest
