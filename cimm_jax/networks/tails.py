"""What a network's tail makes of the activations at its cut, batch by batch."""

from collections.abc import Mapping

import jax
import numpy as np

from cimm_jax.networks import functional
from cimm_jax.networks.features import FeatureSet
from cimm_jax.networks.functional import Split
from cimm_jax.numerics.spreading import by_rows, everywhere, local_mesh, multiple_of_devices

__all__ = ["BATCH_ROWS", "features_behind", "tail_features"]

BATCH_ROWS = 256

_tail = jax.jit(functional.tail, static_argnames="cut")


def tail_features(parts: Split, activations: np.ndarray, cut: str) -> np.ndarray:
    """Features of every row, computed in float32 as the network is served; each device has rows of its own, if they are spread.

    Args:
      parts: the network, split at the cut.
      activations: there, shape (N, ...), memory-mapped or not.
      cut: where.

    Returns:
      float64 of shape (N, d), for condition numbers.
    """
    mesh = local_mesh()
    parts, rows = everywhere(parts, mesh), multiple_of_devices(min(BATCH_ROWS, len(activations)), mesh)
    found = []
    for start in range(0, len(activations), rows):
        batch = np.asarray(activations[start : start + rows])
        # The last batch is filled up, so that one program serves all.
        filled = np.pad(batch, [(0, rows - len(batch)), *[(0, 0)] * (batch.ndim - 1)])
        found.append(np.asarray(_tail(parts, by_rows(filled, mesh), cut), np.float64)[: len(batch)])
    return np.concatenate(found)


def features_behind(parts: Split, sets: Mapping[str, FeatureSet], cut: str) -> dict[str, FeatureSet]:
    """By task, features (`tail_features`) of the activations at the cut, of both parts."""
    return {task: images.changed(lambda x: tail_features(parts, x, cut)) for task, images in sets.items()}
