"""What a sweep of attacks found, as plain numbers for results.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cimm_jax import attacks
from cimm_jax.attacks import Outcome, Swept


def outcome_records(outcomes: Mapping[str, Mapping[str, Outcome]]) -> dict[str, Any]:
    """By extractor and attacker."""
    return {
        extractor: {
            attacker: {
                **outcome._asdict(),
                **{name: getattr(outcome, name)._asdict() for name in ("left", "heldout_left", "accuracy")},
                "deviation": None if outcome.deviation is None else outcome.deviation._asdict(),
                "slow_down": attacks.slow_down(outcome),
            }
            for attacker, outcome in named.items()
        }
        for extractor, named in outcomes.items()
    }


def best_so_far_records(swept: Mapping[str, Swept], extractors: Sequence[str]) -> dict[str, Any]:
    """Expected least excess loss left after 1, 2, ... trials (an attacker at a rate), by extractor and kind of attacker."""
    kinds = {"gradient": [s for s in swept.values() if not s.operator.adaptive], "all": list(swept.values())}
    return {
        extractor: {
            kind: attacks.best_so_far(np.concatenate([s.left[index, ..., -1].mean(-1) for s in members]))
            for kind, members in kinds.items()
            if members
        }
        for index, extractor in enumerate(extractors)
    }
