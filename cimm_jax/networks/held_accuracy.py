"""Holds a primary accuracy while blocks are trained: the penalties weigh more while it is above the wanted one, less below."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.networks import functional
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.functional import Split
from cimm_jax.networks.tails import tail_features

__all__ = ["EVERY", "HeldAccuracy", "hold_accuracy", "rows_aside"]

EVERY = 10
"""Steps between two looks."""

RISE, FALL = 1.2, 0.6
"""What weights are multiplied by. A network that has lost accuracy needs steps to find it again, so they fall faster."""

SHARE, MOST = 0.2, 1000
"""Of the training rows, that are not trained on but looked at."""


class HeldAccuracy(NamedTuple):
    """What is held.

    Attributes:
      wanted: share of the rows set aside that are to be classified rightly.
      cut: where training begins.
      aside: those rows.
      trained: indices of all others, ascending.
    """

    wanted: float
    cut: str
    aside: Labelled
    trained: np.ndarray

    def accuracy(self, parts: Split) -> float:
        """Share of the rows set aside that the network classifies rightly."""
        features = tail_features(parts, self.aside.x, self.cut)
        logits = functional.merge(parts).head(jnp.asarray(features, jnp.float32))
        return float(np.mean(np.asarray(logits).argmax(1) == self.aside.labels))

    def factor(self, parts: Split) -> float:
        """What the weights of the penalties are multiplied by now."""
        return RISE if self.accuracy(parts) >= self.wanted else FALL


def rows_aside(rows: int) -> int:
    """How many of so many rows are set aside."""
    return min(round(SHARE * rows), MOST)


def hold_accuracy(wanted: float, parts: Split, cut: str, primary: Labelled, seed: int) -> HeldAccuracy:
    """Sets rows aside; what was published has to be that accurate on them.

    Args:
      wanted: accuracy.
      parts: the published network, split at the cut.
      cut: where training begins.
      primary: training activations at the cut and labels.
      seed: draws the rows.

    Raises:
      InputError: if the published network is not as accurate, or there are fewer than 10 rows.
    """
    rows = len(primary.labels)
    count = rows_aside(rows)
    if count < 2:
        raise InputError(
            f"primary_accuracy: is looked at on {SHARE:.0%} of the primary rows, and there are only {rows}"
        )
    order = np.random.default_rng(seed).permutation(rows)
    aside, trained = np.sort(order[:count]), np.sort(order[count:])
    held = HeldAccuracy(wanted, cut, Labelled(np.asarray(primary.x[aside]), primary.labels[aside]), trained)
    if (published := held.accuracy(parts)) < wanted:
        raise InputError(
            f"primary_accuracy: the published network gets {published:.3f} on {count} rows set aside, less than {wanted}"
        )
    return held
