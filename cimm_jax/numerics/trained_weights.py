"""Which weights of trained blocks a method moves, and what becomes of them when it has."""

from typing import NamedTuple

__all__ = ["FewWeights", "Renewal"]


class FewWeights(NamedTuple):
    """Only some weights move: those that the penalties' gradient moves much and the primary loss's little.

    Attributes:
      share: of all weights of the trained blocks' matrices and kernels, that are chosen in the end.
      rounds: in which they are chosen, as many in each, over the first half of the steps.
    """

    share: float
    rounds: int


class Renewal(NamedTuple):
    """In the middle of training, noise replaces a part of every trained weight; then the outputs before it are distilled.

        theta <- (1 - shrink) theta + shrink noise theta_0,     theta_0 freshly initialised

    Attributes:
      shrink: share of a weight that goes.
      noise: share of a fresh weight that comes, times `shrink`.
      after: share of the steps that are made before.
    """

    shrink: float
    noise: float
    after: float
