"""How certain a relative immunization ratio is: bootstrap intervals over the rows of both tasks.

The ordinary bootstrap draws rows with replacement and loses a third of them, and with them rank: the smallest eigenvalue of
a resample is that of another problem. The Bayesian bootstrap (Rubin, 1981) weights the rows instead, with independent
exponential weights, none of which is zero. The extractor is held fixed: the intervals are about the data it is judged on, not
about those it was made from.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.metrics import check_extractor, relative_immunization_ratio
from cimm_jax.spectra import Policy, PseudoInverse
from cimm_jax.tasks import Task, TaskPair

COVERAGE = 0.95


class Interval(NamedTuple):
    """A percentile interval; both ends inclusive."""

    low: float
    high: float


class RatioIntervals(NamedTuple):
    """Intervals of a ratio's parts, `COVERAGE` wide.

    Attributes:
      rir: of RIR.
      harmful_ratio: of (i).
      primary_ratio: of (ii).
      kappa_primary: of kappa(H_P) after.
      kappa_harmful: of kappa(H_H) after.
    """

    rir: Interval
    harmful_ratio: Interval
    primary_ratio: Interval
    kappa_primary: Interval
    kappa_harmful: Interval


def bootstrap_ratio(
    key: jax.Array,
    theta: jax.Array,
    pair: TaskPair,
    *,
    policy: Policy = PseudoInverse(),
    resamples: int = 200,
) -> RatioIntervals:
    """Intervals of RIR and its parts on the rows of a pair.

    Args:
      key: seeds the weights.
      theta: extractor, shape (d, m).
      pair: training or held-out rows.
      policy: as in `relative_immunization_ratio`.
      resamples: how many, at least 20; each costs four decompositions.

    Raises:
      InputError: if there are too few resamples or the shapes do not match.
    """
    check_resamples(resamples)
    check_extractor(theta, pair, "theta")
    drawn = _resampled(jax.random.split(key, resamples), theta, pair, policy)
    tails = [50 * (1 - COVERAGE), 50 * (1 + COVERAGE)]
    return RatioIntervals(*(Interval(*map(float, np.percentile(values, tails))) for values in map(np.asarray, drawn)))


def check_resamples(resamples: int) -> None:
    """Raises `InputError` if there are fewer than 20."""
    if resamples < 20:
        raise InputError(f"resamples: needs at least 20 for a 95 % interval, got {resamples}")


@partial(jax.jit, static_argnums=3)
def _resampled(keys, theta, pair, policy):
    def weighted(key, task):
        weights = jnp.sqrt(jax.random.exponential(key, (task.x.shape[0], 1), task.x.dtype))
        return Task(weights * task.x)

    def one(key):
        resampled = TaskPair(
            *(weighted(own_key, task) for own_key, task in zip(jax.random.split(key), pair, strict=True))
        )
        ratio = relative_immunization_ratio(theta, resampled, policy)
        return ratio.rir, ratio.harmful_ratio, ratio.primary_ratio, ratio.primary.kappa, ratio.harmful.kappa

    return jax.lax.map(one, keys)
