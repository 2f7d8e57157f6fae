"""How far a pair of tasks can be immunized at all, and what share of that an extractor reaches.

The limit (`pencil`) holds in the primary task's range. So the share compares like with like: both tasks as seen in that range,
for the extractor and for the limit alike. Where the harmful task has no direction outside it, that is Eq. 1 itself.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.pencil import (
    Pencil,
    check_rtol,
    covariance_pencil,
    diagonalise,
    feature_spectrum,
)
from cimm_jax.closed_form.units import own_units
from cimm_jax.numerics.decompositions import singular_values
from cimm_jax.numerics.inputs import as_array, as_pair
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised
from cimm_jax.numerics.tall_qr import inputs_in_few_rows
from cimm_jax.tasks import TaskPair

__all__ = [
    "ROUNDING",
    "Limit",
    "SeenInRange",
    "Share",
    "covariance_limit",
    "pair_limit",
    "pair_pencil",
    "seen_in_range",
    "share_of_limit",
    "share_of_pair",
]

ROUNDING = 1e-6
"""An extractor exceeds the limit if log RIR is more than this above it, absolutely and relatively."""


class Limit(NamedTuple):
    """The limit of a pair. Every field has the batch shape.

    Attributes:
      ratio: the largest kappa_H / kappa_P of any invertible extractor under Eq. 1; infinite if `harmful_only`.
      ratio_in_range: the same with the harmful task as seen in the primary's range: mu_max / mu_min.
      log_rir: log of the largest RIR in that range: log(ratio_in_range kappa(K_P) / kappa(K_H)).
      kappa_primary: kappa(K_P).
      kappa_harmful: kappa(K_H) as seen in the primary's range.
      rank_primary: int32.
      rank_harmful: int32, in the primary's range.
      harmful_only: bool, the harmful task has directions that the primary task lacks.
      outside: share of the harmful trace in them.
      resolved: bool, False if the arithmetic does not resolve mu_min.
    """

    ratio: jax.Array
    ratio_in_range: jax.Array
    log_rir: jax.Array
    kappa_primary: jax.Array
    kappa_harmful: jax.Array
    rank_primary: jax.Array
    rank_harmful: jax.Array
    harmful_only: jax.Array
    outside: jax.Array
    resolved: jax.Array


class Share(NamedTuple):
    """An extractor against the limit. Every field has the batch shape.

    Attributes:
      share: log_rir / limit; 1 is the best possible, negative is worse than nothing. NaN where the limit is 1 (log 0) or the
        extractor is singular.
      log_rir: log RIR of the extractor, both tasks as seen in the primary's range.
      limit: log of the largest RIR there.
      exceeded: bool, above the limit by more than rounding, where the arithmetic resolves both: never, if the code is right.
    """

    share: jax.Array
    log_rir: jax.Array
    limit: jax.Array
    exceeded: jax.Array


class SeenInRange(NamedTuple):
    """Both tasks in the primary's range, as factors B with B^T B = K, and their limit; rows beyond the rank are zero.

    Attributes:
      primary: shape (r, d).
      harmful: shape (r, d).
      limit: the pair's limit.
    """

    primary: jax.Array
    harmful: jax.Array
    limit: Limit


def pair_pencil(pair: TaskPair, *, ridge: float | jax.Array = 0.0, rtol: float | None = None) -> Pencil:
    """The pencil of a pair's inputs, without forming a covariance; arguments as in `pencil`. Pure."""
    spectra = (feature_spectrum(task.x, rtol=rtol) for task in pair)
    return diagonalise(*spectra, ridge=ridge)


def seen_in_range(pencil: Pencil) -> SeenInRange:
    """Both tasks in the primary's range, with the limit. Takes a pencil of any ridge; the limit has none."""
    primary = jnp.sqrt(pencil.primary)[:, None] * pencil.basis.T
    # K_H = W^{-1} O diag(mu) O^T W^{-1} in the basis, W the whitening weights.
    counts = pencil.inside
    unwhitened = jnp.where(counts, 1 / jnp.where(counts, pencil.whitening, 1), 0)
    rows = jnp.sqrt(pencil.mu)[:, None] * pencil.rotation.T * unwhitened[None, :]
    harmful = product(rows, pencil.basis.T)
    # With a ridge, mu is not the pair's own: whiten without it.
    own = jnp.where(counts, 1 / jnp.sqrt(jnp.where(counts, pencil.primary, 1)), 0)
    sigma = singular_values(rows * own[None, :])
    ratio = jnp.square(sigma[0] / _at_rank(sigma, pencil.rank_harmful))
    kappa_harmful = jnp.exp(_log_kappa(rows, pencil.rank_harmful)[0])
    log_rir = jnp.log(ratio) + jnp.log(pencil.kappa_primary) - jnp.log(kappa_harmful)
    limit = Limit(
        ratio=jnp.where(pencil.harmful_only, jnp.inf, ratio),
        ratio_in_range=ratio,
        log_rir=log_rir,
        kappa_primary=pencil.kappa_primary,
        kappa_harmful=kappa_harmful,
        rank_primary=pencil.rank_primary,
        rank_harmful=pencil.rank_harmful,
        harmful_only=pencil.harmful_only,
        outside=pencil.outside,
        resolved=pencil.resolved,
    )
    return SeenInRange(primary, harmful, limit)


def share_of_limit(theta: jax.Array, seen: SeenInRange) -> Share:
    """An extractor of shape (d, m) against the limit. Pure."""
    limit, theta = seen.limit, normalised(theta).values
    primary, primary_resolved = _log_kappa(product(seen.primary, theta), limit.rank_primary)
    harmful, harmful_resolved = _log_kappa(product(seen.harmful, theta), limit.rank_harmful)
    log_rir = harmful - primary - jnp.log(limit.kappa_harmful) + jnp.log(limit.kappa_primary)
    has_room = limit.log_rir > ROUNDING
    share = jnp.where(has_room, log_rir / jnp.where(has_room, limit.log_rir, 1), jnp.nan)
    resolved = primary_resolved & harmful_resolved & limit.resolved
    exceeded = resolved & (log_rir > limit.log_rir + ROUNDING * (1 + limit.log_rir))
    return Share(share, log_rir, limit.log_rir, exceeded)


def share_of_pair(theta: jax.Array, pair: TaskPair) -> Share:
    """An extractor of shape (d, m) against the limit of a pair's own rows.

    Raises:
      InputError: if something is no array of real numbers (`inputs.as_array`).
    """
    return _share_of_pair(as_array(theta, "theta"), as_pair(inputs_in_few_rows(pair)))


@jax.jit
def _share_of_pair(theta, pair):
    # Of tasks in units of their own: condition numbers have none.
    return share_of_limit(theta, seen_in_range(pair_pencil(own_units(pair).pair)))


def pair_limit(pair: TaskPair, *, rtol: float | None = None) -> Limit:
    """The limit of a pair of tasks, from their inputs. Pure.

    Args:
      pair: the tasks, as `inputs.as_array` takes their arrays; targets are not used. Inputs that
        are spread over devices by rows are not copied to one (`tall_qr.few_rows`).
      rtol: as in `pencil.feature_spectrum`.

    Raises:
      InputError: if something is no array of real numbers, or rtol is not in [0, 1).
    """
    check_rtol(rtol)
    return seen_in_range(pair_pencil(own_units(inputs_in_few_rows(pair)).pair, rtol=rtol)).limit


def covariance_limit(k_primary: jax.Array, k_harmful: jax.Array, *, rtol: float | None = None) -> Limit:
    """The limit of two formed covariances of shape (d, d); arguments and errors as in `pencil.pencil_limit`."""
    return seen_in_range(covariance_pencil(k_primary, k_harmful, rtol=rtol)).limit


def _log_kappa(factor: jax.Array, rank: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log kappa of factor^T factor at a known rank, and whether the arithmetic resolves it to 1 part in 1e6."""
    sigma = singular_values(factor)
    # An extractor with fewer columns than the rank leaves that many directions.
    lowest = _at_rank(sigma, jnp.minimum(rank, min(factor.shape)))
    log_kappa = 2 * (jnp.log(sigma[0]) - jnp.log(lowest))
    return log_kappa, lowest > 1e6 * len(sigma) ** 0.5 * float(jnp.finfo(sigma.dtype).eps) * sigma[0]


def _at_rank(sigma: jax.Array, rank: jax.Array) -> jax.Array:
    return sigma[rank - 1]
