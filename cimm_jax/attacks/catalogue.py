"""Attackers by name, each with the learning rates it is tried at: `adam`, `whiten + line_search`, `adam (cosine)`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from cimm_jax import plugins
from cimm_jax.attacks._linear_probe import QUADRATIC_ONLY, linear_probe
from cimm_jax.attacks._newton import newton
from cimm_jax.attacks.adaptive import normal_equations, standardised, undone, whitened
from cimm_jax.attacks.optimizers import (
    IN_UNITS_OF_CURVATURE,
    Schedule,
    commutes_with_rotations,
    has_rate,
    known_optimizers,
)
from cimm_jax.attacks.protocol import Attack, check_records
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses

__all__ = [
    "ADAPTIVE",
    "AFFORDABLE",
    "GRADIENT",
    "GROUP",
    "PREPARATIONS",
    "SOLVERS",
    "STANDARD",
    "UNDO",
    "Operator",
    "solver_names",
    "standard_names",
    "standard_operators",
]

GRADIENT = (
    "line_search",
    "optimal_constant",
    "inverse_smoothness",
    "gd",
    "momentum",
    "nesterov",
    "sgd",
    "adam",
    "adamw",
    "adagrad",
    "rmsprop",
    "lion",
    "muon",
    "random start + adam",
)
"""Attackers who take the features as they are and follow gradients."""

ADAPTIVE = (
    "standardise + adam",
    "lbfgs",
    "conjugate_gradient",
    "whiten 16 + line_search",
    "whiten + line_search",
    "undo the map + line_search",
    "newton",
    "normal equations",
    "undo the map + normal equations",
)
"""Attackers who estimate or know the geometry of the features; a linear map cannot stop them."""

STANDARD = (*GRADIENT, *ADAPTIVE)

AFFORDABLE = (
    *("line_search", "gd", "momentum", "nesterov", "adam"),
    *("standardise + adam", "conjugate_gradient", "whiten + line_search"),
    *("undo the map + line_search", "normal equations"),
)
"""The standard attackers of tasks with many classes on many features (`class_sweep`)."""

SOLVERS: dict[str, Callable[..., Attack]] = {"newton": newton, "normal equations": normal_equations}
"""Attackers who need no optimizer, called with `steps`, `loss` and `record_at`. A new one is a file, and a line here."""

GROUP = "cimm_jax.attackers"
"""Entry points under which packages add attackers: functions like those of `SOLVERS`."""

PREPARATIONS = ("standardise", "whiten", "whiten K (the K strongest directions)", "undo the map", "random start")
"""What may stand before a solver or an optimizer and a +."""

UNDO = "undo the map"


@dataclass(frozen=True)
class Operator:
    """A named way to attack, with the learning rates it is tried at.

    Attributes:
      name: for tables.
      attack: the attacker.
      rates: learning rates; one number, unused, for an attacker without.
      has_rate: whether the attacker uses it.
      random: whether the attacker uses its key; if not, one seed stands for all.
      adaptive: whether it goes beyond gradients on the features as they are.
      axes: whether its steps look at the features' axes, and so cost d^2 numbers a target on the smallest problem too.
      loss: what the attack's probes are judged by.
      records: the numbers of steps that the attack records; empty if nobody says.
    """

    name: str
    attack: Attack
    rates: tuple[float, ...] = (1.0,)
    has_rate: bool = False
    random: bool = True
    adaptive: bool = False
    axes: bool = False
    loss: losses.Loss = losses.squared
    records: tuple[int, ...] = ()

    def __post_init__(self):
        if not self.rates or not all(0 < rate < float("inf") for rate in self.rates):
            raise InputError(f"rates: {self.name} needs positive finite learning rates, got {self.rates}")


def solver_names() -> tuple[str, ...]:
    """Attackers who need no optimizer: those of the house, and of packages that are installed."""
    return tuple(dict.fromkeys((*SOLVERS, *plugins.names(GROUP))))


def standard_names(
    loss: losses.Loss = losses.squared, *, affordable: bool = False, maps: bool = True
) -> tuple[str, ...]:
    """The standard attackers that can minimise a loss; without exact line search, L-BFGS is who whitens.

    Args:
      loss: of the probe.
      affordable: only those that many classes on many features allow.
      maps: whether every extractor is a map that could be undone.
    """
    return tuple(name for name in _standard_names(loss, affordable) if maps or UNDO not in name)


def _standard_names(loss: losses.Loss, affordable: bool) -> tuple[str, ...]:
    if affordable:
        of_classes = ("gd", "momentum", "nesterov", "adam", "standardise + adam", "lbfgs")
        return AFFORDABLE if loss is losses.squared else of_classes
    if loss is losses.squared:
        return STANDARD
    unable = (*QUADRATIC_ONLY, *(["newton"] if loss is losses.softmax else []))
    return (*(name for name in STANDARD if name.split(" + ")[-1] not in unable), "whiten + lbfgs")


def standard_operators(
    names: Sequence[str] = STANDARD,
    *,
    steps: int = 1000,
    rates: int | Sequence[float] = 9,
    schedules: Sequence[str] = ("constant",),
    loss: losses.Loss = losses.squared,
    record_at: Sequence[int] | None = None,
) -> tuple[Operator, ...]:
    """Operators by name, each with a grid of rates wide enough that the best should lie inside.

    The same settings give the same operators again, which a sweep has compiled already.

    Args:
      names: an optimizer (`optimizers.known_optimizers`), one of `solver_names` or `FILE.py:NAME`, a function in a Python file
        like those of `SOLVERS`; alone or prepared, as in "standardise + adam": standardise, whiten, whiten 16 (the strongest
        directions), undo the map, random start.
      steps: steps of each attack.
      rates: how many learning rates an operator is tried at, or the rates themselves.
      schedules: courses of the rate; each optimizer with a rate is tried with every one.
      loss: of the probe.
      record_at: as in `linear_probe`.

    Raises:
      InputError: if a name is unknown, nothing is asked for, a number is out of range, or a file or package cannot be used.
    """
    if not names:
        raise InputError("attackers: is empty; give at least one")
    if not schedules:
        raise InputError("schedules: is empty; give at least one")
    if isinstance(rates, int) and rates < 1:
        raise InputError(f"rates: needs at least 1, got {rates}")
    courses = tuple(Schedule(name) for name in schedules)
    tried = rates if isinstance(rates, int) else tuple(rates)
    recorded = None if record_at is None else tuple(record_at)
    return tuple(
        operator for name in names for operator in _by_name(name, _own(name), courses, tried, steps, loss, recorded)
    )


def _own(name: str) -> Callable[..., Attack] | None:
    """The function that somebody added under the last part of a name; None if the house has it, or nobody."""
    solver = name.rpartition("+")[2].strip()
    if solver in (*SOLVERS, *known_optimizers()):
        return None
    return plugins.factory(GROUP, solver, "attackers", callable, "an attack, (key, target, rate) -> Trace")


@lru_cache(maxsize=1024)
def _by_name(
    name: str,
    own: Callable[..., Attack] | None,
    schedules: tuple[Schedule, ...],
    rates: int | tuple[float, ...],
    steps: int,
    loss: losses.Loss,
    record_at: tuple[int, ...] | None,
) -> tuple[Operator, ...]:
    whole: dict[str, Any] = {"steps": steps, "loss": loss, "record_at": record_at}
    recorded = check_records(record_at, steps)
    *preparation, solver = (part.strip() for part in name.split("+"))
    prepared = preparation[0] if preparation else ""
    solves = own or SOLVERS.get(solver)
    if (solves is None and solver not in known_optimizers()) or len(preparation) > 1:
        known = ", ".join((*solver_names(), *known_optimizers()))
        raise InputError(
            f"attackers: {name!r} is unknown; choose of {known} or give FILE.py:NAME, alone or after one of "
            f"{', '.join(PREPARATIONS)} and a +"
        )
    starts_at_random = prepared == "random start"
    if solves is not None:
        if starts_at_random:
            raise InputError(f"attackers: {solver} has no start, got {name!r}; leave it out")
        attack = _prepared(prepared, solves(**whole), name)
        return (Operator(name, attack, random=False, adaptive=True, loss=loss, records=recorded),)
    trait = {
        "rates": _grid(solver, rates) if has_rate(solver) else (1.0,),
        "has_rate": has_rate(solver),
        "random": starts_at_random or solver == "sgd",
        "adaptive": solver in ("lbfgs", "conjugate_gradient") or prepared not in ("", "random start"),
        "axes": has_rate(solver) and not commutes_with_rotations(solver),
        "loss": loss,
        "records": recorded,
    }
    operators = []
    for schedule in schedules if has_rate(solver) else [Schedule()]:
        probe = linear_probe(solver, schedule=schedule, random_start=starts_at_random, **whole)
        label = name if schedule == Schedule() else f"{name} ({schedule.name})"
        operators.append(Operator(label, _prepared(prepared, probe, name), **trait))
    return tuple(operators)


def _prepared(preparation: str, attack: Attack, name: str) -> Attack:
    if preparation in ("", "random start"):
        return attack
    if preparation == "standardise":
        return standardised(attack)
    if preparation == UNDO:
        return undone(attack)
    if match := re.fullmatch(r"whiten( [0-9]+)?", preparation):
        return whitened(attack, top_k=int(match[1]) if match[1] else None)
    raise InputError(f"attackers: {preparation!r} of {name!r} is unknown; choose one of {', '.join(PREPARATIONS)}")


def _grid(optimizer: str, rates: int | Sequence[float]) -> tuple[float, ...]:
    if not isinstance(rates, int):
        return tuple(float(rate) for rate in rates)
    low, high = (0.03, 3.0) if optimizer in IN_UNITS_OF_CURVATURE else (1e-4, 10.0)
    return tuple(float(rate) for rate in np.geomspace(low, high, rates))
