"""What a method adds to the primary loss of trained blocks: functions of both tasks' features, each with a weight."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from cimm_jax.errors import InputError
from cimm_jax.tasks import TaskPair

__all__ = ["InnerAttack", "KeptHead", "Opposed", "Penalty", "check_weight"]


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


class KeptHead(NamedTuple):
    """A softmax head of the harmful classes on standardised features, which is trained beside the network and kept.

    Attributes:
      steps: of descent that it makes on the harmful rows of each of the network's steps, before a penalty looks at it.
    """

    steps: int


class Opposed(NamedTuple):
    """What a penalty is shown that looks at a kept head.

    Attributes:
      batch: as other penalties are shown it.
      scores: of the harmful rows by the head, shape (B', C); their derivative is that of the features alone.
      primary_loss: of the same step, a scalar.
    """

    batch: TaskPair
    scores: jax.Array
    primary_loss: jax.Array


class Penalty(NamedTuple):
    """One addition to a loss.

    Attributes:
      value: of a batch, a scalar. The batch holds features of shape (B, d) of both tasks; the harmful one also has targets,
        one-hot of shape (B', C). Of an `Opposed` where there is a kept head.
      weight: lambda; None balances it, so that its first gradient is as long as the primary loss's.
      everywhere: its value is the mean over the pooled outputs of all trained parts, not that of the features alone.
      after: an attacker who moves the weights first, with rows of the even harmful ones; the value is that of the odd ones'
        features, then. None is nobody.
      against: a head to be trained beside the network, of the features; None is no head.
    """

    value: Callable[[Any], jax.Array]
    weight: float | None = None
    everywhere: bool = False
    after: InnerAttack | None = None
    against: KeptHead | None = None


def check_weight(weight: float | None, argument: str) -> float | None:
    """Returns the weight; raises `InputError` if it is negative, infinite or NaN."""
    if weight is not None and not 0 <= weight < float("inf"):
        raise InputError(f"{argument}: needs a finite number of at least 0, got {weight}; leave it out to balance it")
    return weight
