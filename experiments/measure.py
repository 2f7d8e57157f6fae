"""What the tables of the paper are filled with, ours: one extractor measured under every policy, and attacked."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cimm_jax import attacks
from cimm_jax.closed_form.limits import share_of_pair
from cimm_jax.measures.extraction import Extraction
from cimm_jax.measures.ratios import ratios_by_policy, relative_immunization_ratio
from cimm_jax.numerics.spectra import PseudoInverse, ReleasedCode, Spectrum
from cimm_jax.tasks import SplitPair, SplitTask

ATTACKERS = ("line_search", "momentum", "nesterov", "adam", "muon")
"""The standard sweep of the tables: those who follow gradients and did best in the attack tables."""

QUICK_ATTACKERS = ("line_search", "momentum", "nesterov")
"""Those of them whose steps cost nothing on many features: they commute with rotations, so a diagonal problem will do."""


@jax.jit
def measured(theta: jax.Array, split: SplitPair) -> dict[str, jax.Array]:
    """Scalars: RIR and both ratios by policy and rows, the share of the limit, and RIR if every sigma_min were the same.

    The last one tells what a floor does: where a floor decides both sigma_min, RIR is a ratio of spectral norms.
    """
    released = relative_immunization_ratio(theta, split.train, ReleasedCode())
    defined = relative_immunization_ratio(theta, split.train, PseudoInverse())
    heldout = relative_immunization_ratio(theta, split.heldout, PseudoInverse())
    return {
        "released_rir": released.rir,
        "released_harmful": released.harmful_ratio,
        "released_primary": released.primary_ratio,
        "norms_rir": _growth(released.harmful, released.harmful_reference)
        / _growth(released.primary, released.primary_reference),
        "rir": defined.rir,
        "harmful": defined.harmful_ratio,
        "primary": defined.primary_ratio,
        "heldout_rir": heldout.rir,
        "share": share_of_pair(theta, split.train).share,
    }


def _growth(after: Spectrum, before: Spectrum) -> jax.Array:
    return after.sigma_max / before.sigma_max


def ratio_records(extraction: Extraction) -> dict[str, dict[str, Any]]:
    """By policy: RIR and both ratios, with the ranks, condition numbers and floors that they rest on."""
    return {
        policy: {
            **{key: float(getattr(ratio, key)) for key in ("harmful_ratio", "primary_ratio", "rir")},
            "rank": {task: int(getattr(ratio, task).rank) for task in ("harmful", "primary")},
            "kappa": {task: float(getattr(ratio, task).kappa) for task in ("harmful", "primary")},
            "floored": bool(ratio.floored),
        }
        for policy, ratio in ratios_by_policy(extraction).items()
    }


def attacked(
    thetas: Mapping[str, jax.Array],
    split: SplitPair,
    *,
    attackers: Sequence[str] = ATTACKERS,
    steps: int = 1000,
    rates: int = 7,
) -> dict[str, dict[str, float]]:
    """By extractor: the harmful excess loss that the best attacker leaves, and how much they are slowed to half of it.

    Args:
      thetas: extractors by name, the undefended one first.
      split: the pair; attackers fit on the training rows.
      attackers: names of the sweep.
      steps: of each attack. Where nobody gets half way, the slow-down is that of `steps`, a lower bound.
      rates: learning rates of each attacker that has one.
    """
    harmful = SplitTask(*(part.harmful for part in split))
    targets = {name: attacks.behind(theta, harmful) for name, theta in thetas.items()}
    records = attacks.log_spaced_steps(steps)
    operators = attacks.standard_operators(attackers, steps=steps, rates=rates)
    swept = attacks.sweep(operators, targets, keys=jax.random.split(jax.random.key(0), 1))  # all deterministic
    found = attacks.outcomes(swept, list(thetas), records)
    base = _steps(found[next(iter(thetas))].values(), steps)
    return {
        name: {
            "left": min(outcome.left.estimate for outcome in outcomes.values()),
            "slow_down": _steps(outcomes.values(), steps) / base,
        }
        for name, outcomes in found.items()
    }


def mean_and_spread(values: Sequence[float | None] | np.ndarray, *, logs: bool = False) -> str:
    """Like "12.3 (0.4)": the mean and the standard deviation, of the values or of their logarithms; a dash if one is None."""
    if any(value is None for value in values):
        return "-"
    array = np.log(np.asarray(values, float)) if logs else np.asarray(values, float)
    if len(array) < 2:
        return f"{array[0]:.3g}" if len(array) else "-"
    return f"{array.mean():.3g} ({array.std(ddof=1):.2g})"


def _steps(outcomes, steps: int) -> float:
    return min(float(steps), *(outcome.steps[0] for outcome in outcomes))
