"""Attackers on one protocol: `attack(key, target, rate) -> Trace`, all of them pure, so that `vmap` sweeps them.

A new attacker is one function that returns an `Attack`.
"""

from cimm_jax.attacks.adaptive import normal_equations, standardised, undone, whitened
from cimm_jax.attacks.linear_probe import linear_probe
from cimm_jax.attacks.measures import Deviation, relative_finetuning_deviation, slow_down_gap, steps_to_reach
from cimm_jax.attacks.optimizers import Schedule, known_optimizers
from cimm_jax.attacks.protocol import Attack, Target, Trace, log_spaced_steps
from cimm_jax.attacks.sweep import Operator, Swept, best_so_far, standard_operators, sweep

__all__ = [
    "Attack",
    "Deviation",
    "Operator",
    "Schedule",
    "Swept",
    "Target",
    "Trace",
    "best_so_far",
    "known_optimizers",
    "linear_probe",
    "log_spaced_steps",
    "normal_equations",
    "relative_finetuning_deviation",
    "slow_down_gap",
    "standard_operators",
    "standardised",
    "steps_to_reach",
    "sweep",
    "undone",
    "whitened",
]
