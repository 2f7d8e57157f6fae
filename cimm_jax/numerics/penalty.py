"""What a method adds to the primary loss of trained blocks: functions of both tasks' features, each with a weight."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from cimm_jax.errors import InputError
from cimm_jax.tasks import TaskPair

__all__ = ["InnerAttack", "Penalty", "check_weight"]


class InnerAttack(NamedTuple):
    """Steps of gradient ascent that an attacker makes from the present weights before a penalty looks.

    Attributes:
      climbed: of features, shape (B, d), and targets, shape (B, C), a scalar; what the attacker makes larger.
      steps: how many.
      rates: length of each step, the same one for all steps of a turn; turns take them one after the other.
      images: how many of the harmful rows the attacker has; None is every second one.
    """

    climbed: Callable[[jax.Array, jax.Array], jax.Array]
    steps: int
    rates: tuple[float, ...]
    images: int | None = None


class Penalty(NamedTuple):
    """One addition to a loss.

    Attributes:
      value: of a batch, a scalar. The batch holds features of shape (B, d) of both tasks; the harmful one also has targets,
        one-hot of shape (B', C).
      weight: lambda; None balances it, so that its first gradient is as long as the primary loss's.
      everywhere: its value is the mean over the pooled outputs of all trained parts, not that of the features alone.
      after: an attacker who moves the weights first, with rows of the even harmful ones; the value is that of the odd ones'
        features, then. None is nobody.
    """

    value: Callable[[TaskPair], jax.Array]
    weight: float | None = None
    everywhere: bool = False
    after: InnerAttack | None = None


def check_weight(weight: float | None, argument: str) -> float | None:
    """Returns the weight; raises `InputError` if it is negative, infinite or NaN."""
    if weight is not None and not 0 <= weight < float("inf"):
        raise InputError(f"{argument}: needs a finite number of at least 0, got {weight}; leave it out to balance it")
    return weight
