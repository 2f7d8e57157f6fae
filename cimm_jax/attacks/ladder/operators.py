"""Who climbs which rung, with what they tune: the same for every network."""

from functools import cache
from typing import Any

import jax.numpy as jnp
import numpy as np

from cimm_jax.attacks.adaptive import whitened
from cimm_jax.attacks.catalogue import Operator, standard_operators
from cimm_jax.attacks.heads import (
    kernel_ridge,
    nearest_neighbours,
    perceptron,
    ridge_regression,
    softmax_regression,
)
from cimm_jax.attacks.ladder.rungs import HEADS, LAYERS, LINEAR, PROBES
from cimm_jax.attacks.protocol import Attack
from cimm_jax.numerics import losses

__all__ = ["dtype_of", "operators_of", "output_operators"]

STEPS, RECORDS = 300, (10, 30, 100, 300)
"""Of those who make steps."""

NEIGHBOURS = (1.0, 5.0, 15.0)
WIDTHS = (0.3, 1.0, 3.0)
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
RATES = (1e-3, 3e-3, 1e-2)
"""What is tuned: neighbours, widths of a Gaussian kernel, L2 penalties, learning rates of perceptrons."""


def operators_of(rung: int, classes: int) -> tuple[Operator, ...]:
    """The attackers of a rung that takes features, for so many classes; the same ones every time."""
    return _operators(rung, classes > 2)


def output_operators() -> tuple[Operator, ...]:
    """Those who look at published outputs: all heads."""
    return _operators(LAYERS, True)


def dtype_of(rung: int) -> Any:
    """What attackers compute in: whoever solves ill-conditioned equations takes float64, where it is enabled."""
    return jnp.result_type(float) if rung == LINEAR else np.float32


@cache
def _operators(rung: int, several: bool) -> tuple[Operator, ...]:
    loss = losses.softmax if several else losses.logistic
    if rung == PROBES:
        return (
            *standard_operators(("momentum", "adam"), steps=STEPS, rates=5, loss=loss, record_at=RECORDS),
            *standard_operators(("line_search",), steps=STEPS, record_at=RECORDS),
        )
    if rung == LINEAR:
        whitening = standard_operators(("whiten + line_search",), steps=STEPS, record_at=RECORDS)
        return (*_solved(), *whitening)
    if rung == HEADS:
        return (*_heads(linear=False), Operator("whiten + perceptron", whitened(_perceptron()), RATES, records=RECORDS))
    if rung == LAYERS:
        return _heads(linear=True)
    raise ValueError(f"rung {rung} takes no features")


def _heads(*, linear: bool) -> tuple[Operator, ...]:
    """Nonlinear ones, after those linear ones that need no steps if they are wanted too."""
    nonlinear = (
        Operator("neighbours", nearest_neighbours(record_at=(1,)), NEIGHBOURS, random=False, records=(1,)),
        Operator("kernel", kernel_ridge(record_at=(1,)), WIDTHS, records=(1,)),
        Operator("perceptron", _perceptron(), RATES, records=RECORDS),
    )
    return (*_solved(), *nonlinear) if linear else nonlinear


def _solved() -> tuple[Operator, ...]:
    softmax = softmax_regression(steps=RECORDS[-2], record_at=RECORDS[:-1])
    return (
        Operator("ridge", ridge_regression(record_at=(1,)), random=False, records=(1,)),
        Operator("softmax", softmax, PENALTIES, random=False, records=RECORDS[:-1]),
    )


def _perceptron() -> Attack:
    return perceptron(steps=STEPS, record_at=RECORDS)
