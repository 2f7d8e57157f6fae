"""What an attacker got of a network with a budget of images, every setting tried: the ladder's raw figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cimm_jax.attacks._sweep import best_so_far
from cimm_jax.attacks.outcome import wilson
from cimm_jax.numerics.interval import Interval

__all__ = ["Reached", "Tried", "best_of", "expected_best", "reached"]


@dataclass(frozen=True)
class Tried:
    """One attacker against one network with one budget of images.

    Accuracies are shares of the judge's images that are classified rightly. The setting and the step to stop at are those that
    are best there, to the attacker's advantage, for every network alike.

    Attributes:
      rung: its number.
      attacker: name.
      place: whose activations they take, such as "layer3.0"; "features" for the last ones; what is trained, when fine-tuned.
      network: name.
      images: how many they have.
      settings: what was tuned: learning rates, ridges, neighbours, shape (settings,).
      accuracy: of each setting, at its best stop, mean over the seeds that it was tried with; NaN for one not tried.
      by_seed: of the best setting at its best stop, shape (seeds,).
      steps: made when the attacker was judged, shape (records,).
      curve: accuracy of the best setting then, mean over seeds.
      primary: accuracy that the published primary head has on what the best setting made of the features, at the same stop;
        None where features stay what they were, or where there is no such head.
      diverged: share of the runs that did.
      seconds: that all of it took.
    """

    rung: int
    attacker: str
    place: str
    network: str
    images: int
    settings: tuple[float, ...]
    accuracy: tuple[float, ...]
    by_seed: tuple[float, ...]
    steps: tuple[int, ...]
    curve: tuple[float, ...]
    primary: float | None
    diverged: float
    seconds: float

    @property
    def best(self) -> float:
        """Of the best setting at its best stop, mean over seeds."""
        return float(np.mean(self.by_seed))

    @property
    def setting(self) -> float:
        """The best one; NaN where there is nothing to choose, and one number, unused, stands for all."""
        return self.settings[int(np.nanargmax(self.accuracy))] if len(self.settings) > 1 else float("nan")


@dataclass(frozen=True)
class Reached:
    """The best of several attackers.

    Attributes:
      accuracy: on the judge's images, with Wilson's 95 % interval of so many.
      seeds: least and greatest of any seed.
      attacker: name.
      place: whose activations, or what is trained.
      setting: what was best; NaN where there was nothing to choose.
      primary: as in `Tried`.
    """

    accuracy: Interval
    seeds: tuple[float, float]
    attacker: str
    place: str
    setting: float
    primary: float | None


def best_of(tried: Sequence[Tried]) -> Tried:
    """Who got most."""
    return max(tried, key=lambda one: one.best)


def reached(tried: Sequence[Tried], judged: int) -> Reached | None:
    """The best of the attackers, judged on so many images; None if there is none."""
    if not tried:
        return None
    best = best_of(tried)
    seeds = (min(best.by_seed), max(best.by_seed))
    return Reached(wilson(best.best, judged), seeds, best.attacker, best.place, best.setting, best.primary)


def expected_best(tried: Sequence[Tried]) -> np.ndarray:
    """Expected best accuracy of 1, 2, ... trials, an attacker at a setting, drawn in random order; shape (trials,)."""
    values = np.concatenate([one.accuracy for one in tried])
    return 1 - best_so_far(1 - values[~np.isnan(values)])
