"""RIR_theta0 as the paper reports it: averaged over groups of rows (Eq. 17: 20 groups of 100 samples)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.measures.extraction import Extraction, as_extraction
from cimm_jax.measures.ratios import POLICIES, immunization_ratio
from cimm_jax.numerics.decompositions import singular_values
from cimm_jax.numerics.spectra import Policy, PseudoInverse, ReleasedCode

__all__ = ["GROUPS", "GROUP_ROWS", "GroupedRatio", "Mean", "grouped_ratio", "groups_by_policy"]

GROUPS, GROUP_ROWS = 20, 100


class Mean(NamedTuple):
    """A mean over groups with its standard error; NaN for one group."""

    mean: float
    standard_error: float


class GroupedRatio(NamedTuple):
    """Ratios of the groups.

    Attributes:
      rir: of each group's RIR.
      harmful_ratio: of (i).
      primary_ratio: of (ii).
      groups: how many.
      rows: of each task in a group.
      warning: what to know before the numbers are believed; empty if nothing.
    """

    rir: Mean
    harmful_ratio: Mean
    primary_ratio: Mean
    groups: int
    rows: int
    warning: str


def grouped_ratio(
    extraction: Extraction,
    key: jax.Array,
    *,
    policy: Policy = PseudoInverse(),
    groups: int = GROUPS,
    rows: int = GROUP_ROWS,
) -> GroupedRatio:
    """RIR of any extractor, group by group.

    Args:
      extraction: features before and after.
      key: seeds the draw; rows of a group are distinct.
      policy: as in `immunization_ratio`. Of groups with fewer rows than features the released code's rule sees no singular
        value but its own floor, 1e-6: kappa is then sigma_max / 1e-6 + 1.
      groups: how many, at least 1.
      rows: of each task in a group, at least 2.

    Raises:
      InputError: if a task has fewer rows than a group, or a number is out of range.
    """
    extraction = as_extraction(extraction)
    available = min(len(task.x) for task in extraction.after)
    if groups < 1 or not 2 <= rows <= available:
        raise InputError(f"rows: needs 2 to {available} (the rows of the smaller task) in 1 group or more, got {rows}")
    rir, harmful, primary = (_mean(np.asarray(v)) for v in _ratios(extraction, key, policy, groups, rows))
    directions = extraction.after.primary.x.shape[1]
    warning = ""
    if rows < directions:
        warning = (
            f"groups of {rows} rows have no more than {rows} of the {directions} directions: their condition numbers are "
            "of the rows, not of the features"
        )
    return GroupedRatio(rir, harmful, primary, groups, rows, warning)


def groups_by_policy(extraction: Extraction, key: jax.Array) -> dict[str, GroupedRatio]:
    """20 groups of 100 rows, or of as many as the smaller task has, under each of `POLICIES` by the policy's name."""
    rows = min(GROUP_ROWS, *(len(task.x) for task in extraction.after))
    return {type(policy).__name__: grouped_ratio(extraction, key, policy=policy, rows=rows) for policy in POLICIES}


@partial(jax.jit, static_argnames=("policy", "groups", "rows"))
def _ratios(extraction: Extraction, key: jax.Array, policy: Policy, groups: int, rows: int):
    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        drawn = extraction.rows(
            *(
                jax.random.permutation(own, task.x.shape[0])[:rows]
                for own, task in zip(jax.random.split(key), extraction.after, strict=True)
            )
        )
        if isinstance(policy, ReleasedCode) and rows < drawn.after.primary.x.shape[1]:
            primary, harmful = (
                _floor_ratio(after.x, before.x) for after, before in zip(drawn.after, drawn.before, strict=True)
            )
            return harmful / primary, harmful, primary
        ratio = immunization_ratio(drawn, policy)
        return ratio.rir, ratio.harmful_ratio, ratio.primary_ratio

    return jax.lax.map(one, jax.random.split(key, groups))


def _floor_ratio(after: jax.Array, before: jax.Array) -> jax.Array:
    """Ratio of released condition numbers of wide features."""
    now, then = (jnp.square(singular_values(x)[0]) / ReleasedCode.floor + 1 for x in (after, before))
    return now / then


def _mean(values: np.ndarray) -> Mean:
    count = len(values)
    with np.errstate(invalid="ignore"):  # infinity minus infinity: a group's features are all zero
        return Mean(float(values.mean()), float(values.std(ddof=1) / count**0.5) if count > 1 else float("nan"))
