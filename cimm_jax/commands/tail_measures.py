"""What trained last blocks did to both tasks: the same figures as of a map, from features before and after."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.commands.immunize_shared import CURVE_STEPS
from cimm_jax.commands.shared import POLICIES, ratio_record
from cimm_jax.measures.groups import GROUP_ROWS, grouped_feature_ratio
from cimm_jax.measures.metrics import feature_immunization_ratio, judge_features, verdict_of
from cimm_jax.networks.features import DeepFeatures
from cimm_jax.networks.head import Head
from cimm_jax.numerics.convergence import excess_curve
from cimm_jax.tasks import Task, TaskPair


def pairs_of(features: DeepFeatures) -> dict[str, TaskPair]:
    """The tasks by part ("train" and, if there is one, "heldout"), on the device."""
    found = {part: pair for part in ("train", "heldout") if (pair := features.pair(part)) is not None}
    return {part: jax.tree.map(jnp.asarray, pair) for part, pair in found.items()}


def ratios_of(after: TaskPair, before: TaskPair) -> dict[str, Any]:
    """Ratios by policy, for results.json."""
    features = (after.primary.x, after.harmful.x, before.primary.x, before.harmful.x)
    return {type(policy).__name__: ratio_record(feature_immunization_ratio(*features, policy)) for policy in POLICIES}


def groups_of(after: TaskPair, before: TaskPair, key: jax.Array) -> dict[str, Any]:
    """Ratios of 20 groups of 100 rows by policy (`GroupedRatio` as a dictionary)."""
    rows = min(GROUP_ROWS, *(len(task.x) for task in before))
    return {
        type(policy).__name__: grouped_feature_ratio(after, before, key, policy=policy, rows=rows)._asdict()
        for policy in POLICIES
    }


def measured(after: Mapping[str, TaskPair], before: Mapping[str, TaskPair], key: jax.Array) -> dict[str, Any]:
    """Everything of results.json that features tell.

    Args:
      after: tasks by part, on the features of the trained network.
      before: the same of the published one.
      key: seeds the groups.
    """
    fits: tuple[Task, Task] = (after["train"].primary, before["train"].primary)
    nothing: Any = (None, None)
    return {
        "ratios": {part: ratios_of(after[part], before[part]) for part in before},
        "groups": groups_of(after["train"], before["train"], key),
        # The limit is that of linear maps, and intervals are not made.
        "limit": {part: {"share": None} for part in before},
        "intervals": {part: {"rir": nothing} for part in before},
        "excess_left": {part: _curves(after[part], before[part]) for part in before},
        "verdict": {
            part: verdict_of(judge_features(after[part], before[part], fit_on=fits), before[part].primary)._asdict()
            for part in before
        },
    }


def accuracies(features: DeepFeatures, head: Head) -> dict[str, float]:
    """Share of primary images classified rightly, by part."""
    parts = {"train": features.primary.train, "heldout": features.primary.heldout}
    return {
        name: float(np.mean(head.logits(part.x).argmax(1) == part.labels))
        for name, part in parts.items()
        if part is not None
    }


def _curves(after: TaskPair, before: TaskPair) -> dict[str, np.ndarray]:
    return {
        f"{name} {state}": np.asarray(excess_curve(task.x, task.y, CURVE_STEPS))
        for name in ("primary", "harmful")
        for state, task in (("undefended", getattr(before, name)), ("immunized", getattr(after, name)))
    }
