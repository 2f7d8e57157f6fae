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
from cimm_jax.measures.extraction import Extraction, as_extraction
from cimm_jax.measures.ratios import immunization_ratio
from cimm_jax.numerics.interval import Interval
from cimm_jax.numerics.spectra import Policy, PseudoInverse

__all__ = ["COVERAGE", "RatioIntervals", "bootstrap_ratio", "check_resamples"]

COVERAGE = 0.95


class RatioIntervals(NamedTuple):
    """Percentile intervals of a ratio's parts, `COVERAGE` wide; each estimate is that of all rows with equal weights.

    The intervals are those of the resamples, whose smallest eigenvalues tend to lie lower: an estimate may lie outside.

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
    key: jax.Array, extraction: Extraction, *, policy: Policy = PseudoInverse(), resamples: int = 200
) -> RatioIntervals:
    """Intervals of RIR and its parts on the rows of an extraction.

    Args:
      key: seeds the weights.
      extraction: of training or held-out rows.
      policy: as in `immunization_ratio`.
      resamples: how many, at least 20; each costs four decompositions.

    Raises:
      InputError: if there are too few resamples.
    """
    check_resamples(resamples)
    extraction = as_extraction(extraction)
    estimates = _figures(extraction, policy)
    drawn = _resampled(jax.random.split(key, resamples), extraction, policy)
    tails = [50 * (1 - COVERAGE), 50 * (1 + COVERAGE)]
    return RatioIntervals(
        *(
            Interval(float(estimate), *map(float, np.percentile(values, tails)))
            for estimate, values in zip(estimates, map(np.asarray, drawn), strict=True)
        )
    )


def check_resamples(resamples: int) -> None:
    """Raises `InputError` if there are fewer than 20."""
    if resamples < 20:
        raise InputError(f"resamples: needs at least 20 for a 95 % interval, got {resamples}")


@partial(jax.jit, static_argnums=1)
def _figures(extraction: Extraction, policy: Policy) -> tuple[jax.Array, ...]:
    ratio = immunization_ratio(extraction, policy)
    return ratio.rir, ratio.harmful_ratio, ratio.primary_ratio, ratio.primary.kappa, ratio.harmful.kappa


@partial(jax.jit, static_argnums=2)
def _resampled(keys: jax.Array, extraction: Extraction, policy: Policy) -> tuple[jax.Array, ...]:
    def one(key):
        weights = (
            jnp.sqrt(jax.random.exponential(own, (task.x.shape[0], 1), task.x.dtype))
            for own, task in zip(jax.random.split(key), extraction.before, strict=True)
        )
        return _figures(extraction.weighted(*weights), policy)

    return jax.lax.map(one, keys)
