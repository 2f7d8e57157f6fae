"""Who climbs which rung, with what they tune: the same for every network."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks.adaptive import whitened
from cimm_jax.attacks.catalogue import Operator, standard_operators
from cimm_jax.attacks.heads import head_operators
from cimm_jax.attacks.ladder.rungs import HEADS, LAYERS, LINEAR, PROBES
from cimm_jax.numerics import losses

__all__ = ["dtype_of", "operators_of"]

STEPS, RECORDS = 300, (10, 30, 100, 300)
"""Of those who make steps."""

LATE = (30, 100, 300)
"""Of perceptrons, whose judging costs more than their steps."""


def operators_of(rung: int, classes: int) -> tuple[Operator, ...]:
    """The attackers of a rung that takes features, for so many classes; the same ones every time."""
    return _operators(rung, classes if classes > 2 else 1)


def dtype_of(rung: int) -> Any:
    """What attackers compute in: whoever solves ill-conditioned equations takes float64, where it is enabled."""
    return jnp.result_type(float) if rung == LINEAR else np.float32


@cache
def _operators(rung: int, columns: int) -> tuple[Operator, ...]:
    loss = losses.softmax if columns > 1 else losses.logistic
    if rung == PROBES:
        return (
            *standard_operators(("momentum", "adam"), steps=STEPS, rates=5, loss=loss, record_at=RECORDS),
            *standard_operators(("line_search",), steps=STEPS, record_at=RECORDS),
        )
    if rung == LINEAR:
        whitening = standard_operators(("whiten + line_search",), steps=STEPS, record_at=RECORDS)
        return (*_solved(columns), *whitening)
    if rung == HEADS:
        found = _heads(columns, linear=False)
        return (*found, _whitened(found[-1]))
    if rung == LAYERS:
        return _heads(columns, linear=True)
    raise ValueError(f"rung {rung} takes no features")


def _heads(columns: int, *, linear: bool) -> tuple[Operator, ...]:
    """Nonlinear heads, after the linear ones that need no search if they are wanted too."""
    solved = head_operators(("nearest neighbours", "kernel ridge"), classes=columns, steps=1, record_at=(1,))
    found = (*solved, *head_operators(("perceptron",), classes=columns, steps=STEPS, record_at=LATE))
    return (*_solved(columns), *found) if linear else found


def _solved(columns: int) -> tuple[Operator, ...]:
    ridge = head_operators(("ridge regression", "unscaled ridge regression"), classes=columns, steps=1, record_at=(1,))
    return (
        *ridge,
        *head_operators(("softmax regression",), classes=columns, steps=RECORDS[-2], record_at=RECORDS[:-1]),
    )


def _whitened(operator: Operator) -> Operator:
    return replace(operator, name=f"whiten + {operator.name}", attack=whitened(operator.attack))
