"""RIR_theta0 as the paper reports it: averaged over groups of rows (Eq. 17: 20 groups of 100 samples)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.decompositions import singular_values
from cimm_jax.errors import InputError
from cimm_jax.metrics import feature_immunization_ratio
from cimm_jax.spectra import Policy, PseudoInverse, ReleasedCode, product_amplification
from cimm_jax.tasks import TaskPair

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
    theta: jax.Array,
    pair: TaskPair,
    key: jax.Array,
    *,
    policy: Policy = PseudoInverse(),
    groups: int = GROUPS,
    rows: int = GROUP_ROWS,
) -> GroupedRatio:
    """RIR of a linear map behind the features, group by group.

    Args:
      theta: the map, shape (d, d).
      pair: features of both tasks.
      key: seeds the draw.
      policy: as in `grouped_feature_ratio`.
      groups: how many.
      rows: of each task in a group.

    Raises:
      InputError: as `grouped_feature_ratio`.
    """
    mapped = TaskPair(
        *(task._replace(x=jnp.matmul(task.x, theta, precision=jax.lax.Precision.HIGHEST)) for task in pair)
    )
    return grouped_feature_ratio(mapped, pair, key, theta=theta, policy=policy, groups=groups, rows=rows)


def grouped_feature_ratio(
    features: TaskPair,
    reference: TaskPair,
    key: jax.Array,
    *,
    theta: jax.Array | None = None,
    policy: Policy = PseudoInverse(),
    groups: int = GROUPS,
    rows: int = GROUP_ROWS,
) -> GroupedRatio:
    """RIR of any extractor, group by group.

    Args:
      features: of both tasks.
      reference: features of the same rows under the extractor compared with.
      key: seeds the draw; rows of a group are distinct.
      theta: the map, where the features are the reference's times one: what rounding leaves is then judged by it.
      policy: as in `relative_immunization_ratio`. Of groups with fewer rows than features the released code's rule sees no
        singular value but its own floor, 1e-6: kappa is then sigma_max / 1e-6 + 1.
      groups: how many, at least 1.
      rows: of each task in a group, at least 2.

    Raises:
      InputError: if a task has fewer rows than a group, or a number is out of range.
    """
    available = min(len(task.x) for task in features)
    if groups < 1 or not 2 <= rows <= available:
        raise InputError(f"rows: needs 2 to {available} (the rows of the smaller task) in 1 group or more, got {rows}")
    rir, harmful, primary = (
        _mean(np.asarray(v)) for v in _ratios(features, reference, theta, key, policy, groups, rows)
    )
    directions = features.primary.x.shape[1]
    warning = ""
    if rows < directions:
        warning = (
            f"groups of {rows} rows have no more than {rows} of the {directions} directions: their condition numbers are "
            "of the rows, not of the features"
        )
    return GroupedRatio(rir, harmful, primary, groups, rows, warning)


@partial(jax.jit, static_argnames=("policy", "groups", "rows"))
def _ratios(
    features: TaskPair,
    reference: TaskPair,
    theta: jax.Array | None,
    key: jax.Array,
    policy: Policy,
    groups: int,
    rows: int,
):
    def one(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        drawn = [
            _draw(own, now.x, then.x, rows)
            for own, now, then in zip(jax.random.split(key), features, reference, strict=True)
        ]
        (primary, primary_before), (harmful, harmful_before) = drawn
        if isinstance(policy, ReleasedCode) and rows < primary.shape[1]:
            primary_ratio, harmful_ratio = (_floor_ratio(now, then) for now, then in drawn)
            return harmful_ratio / primary_ratio, harmful_ratio, primary_ratio
        larger = (1.0, 1.0)
        if theta is not None:
            larger = (
                product_amplification(primary_before, theta, primary),
                product_amplification(harmful_before, theta, harmful),
            )
        ratio = feature_immunization_ratio(primary, harmful, primary_before, harmful_before, policy, larger)
        return ratio.rir, ratio.harmful_ratio, ratio.primary_ratio

    return jax.lax.map(one, jax.random.split(key, groups))


def _draw(key: jax.Array, now: jax.Array, then: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    chosen = jax.random.permutation(key, now.shape[0])[:rows]
    return now[chosen], then[chosen]


def _floor_ratio(after: jax.Array, before: jax.Array) -> jax.Array:
    """Ratio of released condition numbers of wide features."""
    now, then = (jnp.square(singular_values(x)[0]) / ReleasedCode.floor + 1 for x in (after, before))
    return now / then


def _mean(values: np.ndarray) -> Mean:
    count = len(values)
    with np.errstate(invalid="ignore"):  # infinity minus infinity: a group's features are all zero
        return Mean(float(values.mean()), float(values.std(ddof=1) / count**0.5) if count > 1 else float("nan"))
