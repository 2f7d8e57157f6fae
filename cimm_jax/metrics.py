"""Is it immunized, and how much? Ratios (Eq. 15 and 17), the three conditions of Definition 3.1, Proposition 3.2."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.decompositions import svd
from cimm_jax.errors import InputError
from cimm_jax.hessian import probe_hessian
from cimm_jax.spectra import (
    Policy,
    PseudoInverse,
    Spectrum,
    feature_condition_number,
    product_amplification,
    rounding_tolerance,
)
from cimm_jax.tasks import Array, Task, TaskPair

_HIGHEST = jax.lax.Precision.HIGHEST


class ImmunizationRatio(NamedTuple):
    """The relative immunization ratio with everything it is made of. Every field has the batch shape.

    Attributes:
      rir: harmful_ratio / primary_ratio; above 1, the harmful task became harder relative to the primary one (Eq. 15).
      harmful_ratio: (i), kappa of the harmful task after over before; should be large.
      primary_ratio: (ii), the same for the primary task; should be at most 1.
      harmful: spectrum of the harmful probe Hessian after; its rank and `floored` say what the ratio rests on.
      harmful_reference: the same before.
      primary: spectrum of the primary probe Hessian after.
      primary_reference: the same before.
    """

    rir: jax.Array
    harmful_ratio: jax.Array
    primary_ratio: jax.Array
    harmful: Spectrum
    harmful_reference: Spectrum
    primary: Spectrum
    primary_reference: Spectrum

    @property
    def floored(self) -> jax.Array:
        """True if a floor or the arithmetic decided any of the four condition numbers."""
        return (
            self.harmful.floored
            | self.harmful_reference.floored
            | self.primary.floored
            | self.primary_reference.floored
        )


def relative_immunization_ratio(
    theta: jax.Array, pair: TaskPair, policy: Policy = PseudoInverse(), reference: jax.Array | None = None
) -> ImmunizationRatio:
    """RIR of a linear extractor on a pair of tasks (Eq. 15).

    Args:
      theta: extractor, shape (d, m), of the pair's dtype; float64 for ratios beyond 1e9.
      pair: the tasks; targets are not used.
      policy: what counts as a zero singular value. Ratios under different policies are not comparable.
      reference: the extractor compared with, shape (d, m'); None is the identity.

    Raises:
      InputError: if an extractor's number of rows is not the tasks' number of features.
    """
    check_extractor(theta, pair, "theta")
    if reference is not None:
        check_extractor(reference, pair, "reference")

    after = [_condition_number(task.x, theta, policy) for task in (pair.harmful, pair.primary)]
    before = [_condition_number(task.x, reference, policy) for task in (pair.harmful, pair.primary)]
    return _ratio(after, before)


def feature_immunization_ratio(
    primary: jax.Array,
    harmful: jax.Array,
    primary_reference: jax.Array,
    harmful_reference: jax.Array,
    policy: Policy = PseudoInverse(),
    amplification: tuple[float | jax.Array, float | jax.Array] = (1.0, 1.0),
) -> ImmunizationRatio:
    """RIR from features alone, for any extractor, linear or not (Eq. 17); each of shape (N, features).

    `amplification` is that of the primary and of the harmful features, as in `feature_condition_number`.
    """
    after = [
        feature_condition_number(f, policy, amplification=larger)
        for f, larger in zip((harmful, primary), amplification[::-1], strict=True)
    ]
    before = [feature_condition_number(f, policy) for f in (harmful_reference, primary_reference)]
    return _ratio(after, before)


def _condition_number(x: jax.Array, extractor: jax.Array | None, policy: Policy) -> Spectrum:
    """Of the probe Hessian on x theta; without an extractor, on x itself."""
    if extractor is None:
        return feature_condition_number(x, policy)
    features = _features(x, extractor)
    return feature_condition_number(features, policy, amplification=product_amplification(x, extractor, features))


def _ratio(after: Sequence[Spectrum], before: Sequence[Spectrum]) -> ImmunizationRatio:
    """Of spectra (harmful, primary)."""
    harmful_ratio = after[0].kappa / before[0].kappa
    primary_ratio = after[1].kappa / before[1].kappa
    return ImmunizationRatio(
        harmful_ratio / primary_ratio, harmful_ratio, primary_ratio, after[0], before[0], after[1], before[1]
    )


class Conditions(NamedTuple):
    """The three conditions of Definition 3.1; booleans of the batch shape.

    Attributes:
      harmful_harder: (a) kappa of the harmful task grew by the asked factor.
      primary_as_easy: (b) kappa of the primary task did not grow.
      primary_kept: (c) the best primary probe is as good as before; True where the primary task has no targets.
    """

    harmful_harder: jax.Array
    primary_as_easy: jax.Array
    primary_kept: jax.Array

    @property
    def immunized(self) -> jax.Array:
        """All three hold."""
        return self.harmful_harder & self.primary_as_easy & self.primary_kept


class Judgement(NamedTuple):
    """An extractor measured on a pair: pure arrays, so that `vmap` can judge a whole sweep.

    Attributes:
      ratio: the relative immunization ratio and its parts.
      loss_before: mean squared error of the best primary probe on raw inputs; NaN without targets.
      loss_after: the same on the extractor's features.
      conditions: Definition 3.1.
    """

    ratio: ImmunizationRatio
    loss_before: jax.Array
    loss_after: jax.Array
    conditions: Conditions


MUCH_GREATER = 10.0
"""What Definition 3.1 (a)'s "much greater than" stands for unless the caller says otherwise."""

TOLERANCE = 0.01
"""How much of (b) and (c) may be lost, relative, unless the caller says otherwise."""


def judge(
    theta: jax.Array,
    pair: TaskPair,
    *,
    fit_on: Task | None = None,
    policy: Policy = PseudoInverse(),
    much_greater: float = MUCH_GREATER,
    tolerance: float = TOLERANCE,
) -> Judgement:
    """Measures an extractor on a pair and checks Definition 3.1. Pure.

    Args:
      theta: extractor, shape (d, m).
      pair: the rows to judge on, training or held-out.
      fit_on: primary rows that (c)'s probes are fitted on; None fits them on the judged rows themselves.
      policy: what counts as a zero singular value.
      much_greater: the factor asked for in (a).
      tolerance: how far the ratio may exceed 1 in (b), and how much of the primary loss may be lost in (c), relative.

    Raises:
      InputError: if shapes do not match.
    """
    after = TaskPair(*(task._replace(x=_features(task.x, theta)) for task in pair))
    fits = None if fit_on is None else (fit_on._replace(x=_features(fit_on.x, theta)), fit_on)
    ratio = relative_immunization_ratio(theta, pair, policy)
    fitted, inputs = (after.primary, pair.primary) if fits is None else fits
    amplification = product_amplification(inputs.x, theta, fitted.x)
    return _judged(ratio, after.primary, pair.primary, fits, much_greater, tolerance, amplification)


def judge_features(
    features: TaskPair,
    reference: TaskPair,
    *,
    fit_on: tuple[Task, Task] | None = None,
    policy: Policy = PseudoInverse(),
    much_greater: float = MUCH_GREATER,
    tolerance: float = TOLERANCE,
) -> Judgement:
    """`judge` for any extractor, linear or not, from its features.

    Args:
      features: of the rows to judge on.
      reference: features of the same rows under the extractor compared with.
      fit_on: primary rows that (c)'s probes are fitted on, under both; None is the judged rows.
      policy: as in `judge`.
      much_greater: as in `judge`.
      tolerance: as in `judge`.
    """
    ratio = feature_immunization_ratio(
        features.primary.x, features.harmful.x, reference.primary.x, reference.harmful.x, policy
    )
    return _judged(ratio, features.primary, reference.primary, fit_on, much_greater, tolerance)


def _judged(
    ratio: ImmunizationRatio,
    primary: Task,
    reference: Task,
    fit_on: tuple[Task, Task] | None,
    much_greater: float,
    tolerance: float,
    amplification: float | jax.Array = 1.0,
) -> Judgement:
    """Definition 3.1 on primary features after and before; `fit_on` in that order, `amplification` of what is fitted after."""
    if primary.y is None:
        before = after = jnp.full((), jnp.nan, primary.x.dtype)
        kept = jnp.ones((), bool)
    else:
        fits = (primary, reference) if fit_on is None else fit_on
        after, before = probe_loss(fits[0], primary, amplification), probe_loss(fits[1], reference)
        # The second term lets a loss that is zero but for rounding stay "kept".
        kept = after <= before * (1 + tolerance) + 1e-9 * jnp.mean(jnp.square(primary.y))
    conditions = Conditions(ratio.harmful_ratio >= much_greater, ratio.primary_ratio <= 1 + tolerance, kept)
    return Judgement(ratio, before, after, conditions)


class Verdict(NamedTuple):
    """Definition 3.1 in plain Python values, made on the host.

    Attributes:
      immunized: all three conditions hold.
      harmful_harder: condition (a).
      primary_as_easy: condition (b).
      primary_kept: condition (c); None if the primary task has no targets.
      reasons: one sentence per condition, with the figures.
    """

    immunized: bool
    harmful_harder: bool
    primary_as_easy: bool
    primary_kept: bool | None
    reasons: tuple[str, ...]


def definition_3_1(
    theta: jax.Array,
    pair: TaskPair,
    *,
    fit_on: Task | None = None,
    policy: Policy = PseudoInverse(),
    much_greater: float = MUCH_GREATER,
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Judges an extractor by the paper's definition of an immunized model, and says why; arguments as in `judge`."""
    judged = judge(theta, pair, fit_on=fit_on, policy=policy, much_greater=much_greater, tolerance=tolerance)
    return verdict_of(judged, pair.primary, policy=policy, much_greater=much_greater, tolerance=tolerance)


def verdict_of(
    judged: Judgement,
    primary: Task,
    *,
    policy: Policy = PseudoInverse(),
    much_greater: float = MUCH_GREATER,
    tolerance: float = TOLERANCE,
) -> Verdict:
    """Says in words what was judged of a primary task and another; the other arguments as it was made with."""
    ratio = judged.ratio
    harder, as_easy, kept = (bool(condition) for condition in judged.conditions)
    reasons = [
        f"(a) {_yes(harder)}: kappa of the harmful task went from {ratio.harmful_reference.kappa:.4g} to "
        f"{ratio.harmful.kappa:.4g}, a factor of {ratio.harmful_ratio:.4g} (asked: at least {much_greater:g})",
        f"(b) {_yes(as_easy)}: kappa of the primary task went from {ratio.primary_reference.kappa:.4g} to "
        f"{ratio.primary.kappa:.4g}, a factor of {ratio.primary_ratio:.4g} (allowed: at most {1 + tolerance:g})",
    ]
    if primary.y is None:
        reasons.append("(c) not judged: the primary task has no targets")
    else:
        reasons.append(
            f"(c) {_yes(kept)}: the best primary probe leaves a squared error of {judged.loss_after:.4g}, "
            f"before {judged.loss_before:.4g} (allowed: {tolerance:.0%} more)"
        )
    if bool(ratio.floored):
        reasons.append(f"caution: a floor or the arithmetic decided at least one of these condition numbers ({policy})")
    immunized = bool(judged.conditions.immunized)
    return Verdict(immunized, harder, as_easy, None if primary.y is None else kept, tuple(reasons))


def probe_loss(fit_on: Task, judged_on: Task, amplification: float | jax.Array = 1.0) -> jax.Array:
    """Mean squared error on one task of the least-squares probe of another (the shortest solution); a scalar.

    `amplification` is `product_amplification` of the rows fitted on, where they are a product.
    """
    u, sigma, vt = svd(fit_on.x)
    kept = sigma > rounding_tolerance(max(fit_on.x.shape), sigma.dtype) * amplification * sigma[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, sigma, 1), 0)
    solve = partial(jnp.matmul, precision=_HIGHEST)
    targets = fit_on.y.reshape(fit_on.y.shape[0], -1)
    probe = solve(vt.T, inverse[:, None] * solve(u.T, targets)).reshape(-1, *fit_on.y.shape[1:])
    return jnp.mean(jnp.square(solve(judged_on.x, probe) - judged_on.y))


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
      theta: extractor, shape (d, m).
      k: covariance, shape (d, d).
    """
    u, sigma, vt = svd(theta)
    values = sigma**2 * jnp.einsum("di,de,ei->i", u, k, u, precision=_HIGHEST)
    h = probe_hessian(theta, k)
    rotated = vt @ h @ vt.T
    off = rotated - jnp.diag(jnp.diagonal(rotated))
    return Proposition32(values, jnp.linalg.norm(off) / jnp.linalg.norm(h))


def check_extractor(theta: Array, pair: TaskPair, name: str) -> None:
    """Raises `InputError` unless theta has one row for each of the pair's features."""
    features = np.shape(pair.primary.x)[-1]
    if np.ndim(theta) != 2 or np.shape(theta)[0] != features:
        raise InputError(f"{name}: needs shape ({features}, m) for these tasks, got {np.shape(theta)}")


def _features(x: jax.Array, extractor: jax.Array | None) -> jax.Array:
    """X theta; without an extractor, the inputs themselves."""
    return x if extractor is None else jnp.matmul(x, extractor, precision=_HIGHEST)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
