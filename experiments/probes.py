"""What is recorded of linear probes on a network's features: held-out accuracy, step by step, for tables and for Figure 3."""

from collections.abc import Mapping
from typing import Any

from cimm_jax import attacks
from cimm_jax.attacks import Swept

FOLLOWERS = ("gd", "momentum", "adam")
"""Those whose best is compared with the published possibility: at most 0.06 against 0.43 undefended on lite0_cars."""


def probe_records(swept: Mapping[str, Swept]) -> dict[str, dict[str, Any]]:
    """By attacker, on the first extractor of a sweep: accuracy and excess loss left at the end, and accuracy on the way.

    At every record of `accuracy_curve` the rate is the best for that many steps. `rate` is the best at the end.
    """
    records = {}
    for name, found in swept.items():
        accuracy, left = attacks.best(found.accuracy, largest=True), attacks.best(found.left)
        records[name] = {
            "adaptive": found.operator.adaptive,
            "accuracy": float(accuracy.mean[0, -1]),
            "left": float(left.mean[0, -1]),
            "rate": found.operator.rates[int(accuracy.rate[0, -1])],
            "rates": found.operator.rates,
            "accuracy_curve": accuracy.mean[0],
        }
    return records


def best_follower(records: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The best accuracy of those who follow gradients; None if none of them was run."""
    return max((records[name]["accuracy"] for name in FOLLOWERS if name in records), default=None)
