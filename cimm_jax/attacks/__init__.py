"""Attackers on one protocol: `attack(key, target, rate) -> Trace`, all of them pure, so that `vmap` sweeps them.

A new attacker is one function that returns an `Attack`; `Operator(name, attack, rates)` puts it into a sweep.
"""

from cimm_jax.attacks.adaptive import normal_equations, ridge_probe, standardised, undone, whitened
from cimm_jax.attacks.catalogue import ADAPTIVE, GRADIENT, STANDARD, Operator, standard_names, standard_operators
from cimm_jax.attacks.linear_probe import linear_probe
from cimm_jax.attacks.measures import Deviation, relative_finetuning_deviation, slow_down_gap, steps_to_reach
from cimm_jax.attacks.newton import newton
from cimm_jax.attacks.optimizers import Schedule, known_optimizers
from cimm_jax.attacks.outcome import BROKEN_AT, THRESHOLDS, Interval, Outcome, outcomes, slow_down
from cimm_jax.attacks.protocol import Attack, Target, Trace, are_classes, behind, log_spaced_steps
from cimm_jax.attacks.sweep import Best, Swept, best, best_so_far, sweep

__all__ = [
    "ADAPTIVE",
    "BROKEN_AT",
    "GRADIENT",
    "STANDARD",
    "THRESHOLDS",
    "Attack",
    "Best",
    "Deviation",
    "Interval",
    "Operator",
    "Outcome",
    "Schedule",
    "Swept",
    "Target",
    "Trace",
    "are_classes",
    "behind",
    "best",
    "best_so_far",
    "known_optimizers",
    "linear_probe",
    "log_spaced_steps",
    "newton",
    "normal_equations",
    "outcomes",
    "relative_finetuning_deviation",
    "ridge_probe",
    "slow_down",
    "slow_down_gap",
    "standard_names",
    "standard_operators",
    "standardised",
    "steps_to_reach",
    "sweep",
    "undone",
    "whitened",
]
