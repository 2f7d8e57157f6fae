"""The published head behind an immunized map: it absorbs the map's inverse, and the primary logits stay as they were."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from cimm_jax.closed_form.heads import absorb

UNCHANGED = 1e-3
"""Largest relative change of an image's float32 logits that counts as none."""


class Head(NamedTuple):
    """A linear head: logits are features kernel + bias.

    Attributes:
      kernel: shape (d, classes).
      bias: shape (classes,).
    """

    kernel: np.ndarray
    bias: np.ndarray

    def absorbed(self, theta: np.ndarray) -> "Head":
        """The head, float32, for features theta; solved in float64. Raises `InputError` as `heads.absorb`."""
        kernel = absorb(jnp.asarray(theta, jnp.float64), jnp.asarray(self.kernel, jnp.float64))
        return Head(np.asarray(kernel, np.float32), np.asarray(self.bias, np.float32))

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Shape (N, classes), float32."""
        return np.asarray(features, np.float32) @ np.asarray(self.kernel, np.float32) + self.bias

    def to_bytes(self) -> bytes:
        """A safetensors file with `kernel` and `bias`."""
        return save({"kernel": np.ascontiguousarray(self.kernel), "bias": np.ascontiguousarray(self.bias)})


class PrimaryKept(NamedTuple):
    """What the primary task lost, in float32 as the network is shipped.

    Attributes:
      accuracy_before: share of images classified rightly by the published network.
      accuracy_after: by the immunized one.
      largest_change: over images, ||logits after - logits before|| / ||logits before||.
      unchanged: whether that is at most 1e-3.
    """

    accuracy_before: float
    accuracy_after: float
    largest_change: float
    unchanged: bool


def primary_kept(
    head: Head, absorbed: Head, theta: np.ndarray, features: np.ndarray, labels: np.ndarray
) -> PrimaryKept:
    """Runs both heads on the features, in float32.

    Args:
      head: the published head.
      absorbed: the head behind the map.
      theta: the map, shape (d, d).
      features: shape (N, d).
      labels: shape (N,).
    """
    before = head.logits(features)
    after = absorbed.logits(np.asarray(features, np.float32) @ np.asarray(theta, np.float32))
    change = np.linalg.norm(after - before, axis=1) / np.maximum(np.linalg.norm(before, axis=1), 1e-30)
    accuracy_before, accuracy_after = (float(np.mean(logits.argmax(1) == labels)) for logits in (before, after))
    largest = float(change.max())
    return PrimaryKept(accuracy_before, accuracy_after, largest, largest <= UNCHANGED)
