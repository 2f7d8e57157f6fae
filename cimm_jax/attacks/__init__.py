"""Attackers on one protocol: `attack(key, target, rate) -> Trace`, all of them pure, so that `vmap` sweeps them.

A new attacker is one function that returns an `Attack`; `Operator(name, attack, rates)` puts it into a sweep.
"""

from cimm_jax.attacks._linear_probe import linear_probe
from cimm_jax.attacks._newton import newton
from cimm_jax.attacks._sweep import Best, Swept, best, best_so_far, sweep
from cimm_jax.attacks.adaptive import normal_equations, ridge_probe, standardised, undone, whitened
from cimm_jax.attacks.catalogue import (
    ADAPTIVE,
    GRADIENT,
    PREPARATIONS,
    SOLVERS,
    STANDARD,
    UNDO,
    Operator,
    solver_names,
    standard_names,
    standard_operators,
)
from cimm_jax.attacks.class_sweep import class_task, sweep_classes
from cimm_jax.attacks.findings import Breach, Claim, Price, Slowed, claims, prices
from cimm_jax.attacks.measures import Deviation, relative_finetuning_deviation, slow_down_gap, steps_to_reach
from cimm_jax.attacks.optimizers import Schedule, known_optimizers
from cimm_jax.attacks.outcome import BROKEN_AT, THRESHOLDS, HeldOut, Outcome, outcomes, slow_down
from cimm_jax.attacks.protocol import UNDEFENDED, Attack, Target, Trace, are_classes, behind, log_spaced_steps

__all__ = [
    "ADAPTIVE",
    "BROKEN_AT",
    "GRADIENT",
    "PREPARATIONS",
    "SOLVERS",
    "STANDARD",
    "THRESHOLDS",
    "UNDEFENDED",
    "UNDO",
    "Attack",
    "Best",
    "Breach",
    "Claim",
    "Deviation",
    "HeldOut",
    "Operator",
    "Outcome",
    "Price",
    "Schedule",
    "Slowed",
    "Swept",
    "Target",
    "Trace",
    "are_classes",
    "behind",
    "best",
    "best_so_far",
    "claims",
    "class_task",
    "known_optimizers",
    "linear_probe",
    "log_spaced_steps",
    "newton",
    "normal_equations",
    "outcomes",
    "prices",
    "relative_finetuning_deviation",
    "ridge_probe",
    "slow_down",
    "slow_down_gap",
    "solver_names",
    "standard_names",
    "standard_operators",
    "standardised",
    "steps_to_reach",
    "sweep",
    "sweep_classes",
    "undone",
    "whitened",
]
