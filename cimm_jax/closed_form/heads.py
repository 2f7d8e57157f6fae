"""The primary head absorbs the map: behind an invertible linear map, primary outputs stay what they were.

Behind a singular one, what it had is gone, and the head is fitted again to come as near as it can.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.head_refit import is_singular, refit
from cimm_jax.errors import InputError
from cimm_jax.numerics.inputs import as_array, check_finite
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised, scaled

__all__ = ["TOLERANCE", "UNCHANGED", "Head", "PrimaryKept", "absorb", "primary_kept"]

UNCHANGED = 1e-3
"""Largest relative change of an image's float32 logits that counts as none."""

TOLERANCE = {np.dtype(np.float64): 1e-10, np.dtype(np.float32): 1e-3}
"""Largest relative error of the primary outputs that is accepted, by dtype."""


def absorb(theta: jax.Array, head: jax.Array) -> jax.Array:
    """The head that gives on features F theta what the given head gives on F, for any features F.

    It solves theta head' = head. Use it behind any extractor: ship theta folded into the last linear layer, or as a layer of
    its own, and this head; a bias of the head stays as it is.

    Args:
      theta: the linear map behind the features, shape (d, d), invertible, as `inputs.as_array` takes it.
      head: primary head, shape (d,) or (d, C), the same: outputs are F head. (PyTorch's nn.Linear stores the transpose.)

    Returns:
      The new head, of the same shape, with ||theta head' - head||_F <= 1e-10 ||head||_F in float64 (1e-3 in float32).

    Raises:
      InputError: if the shapes do not match, an entry is not finite, theta is too close to singular for that accuracy, or the
        new head is out of the range of numbers. Not traceable.
    """
    theta, head = as_array(theta, "theta"), as_array(head, "head")
    if theta.ndim != 2 or theta.shape[0] != theta.shape[1]:
        raise InputError(f"theta: needs shape (d, d), got {theta.shape}; only an invertible map can be absorbed")
    if head.ndim not in (1, 2) or head.shape[0] != theta.shape[0]:
        raise InputError(f"head: needs shape ({theta.shape[0]},) or ({theta.shape[0]}, C), got {head.shape}")
    if theta.dtype not in TOLERANCE or head.dtype != theta.dtype:
        raise InputError(
            f"head: theta has dtype {theta.dtype} and head {head.dtype}; make both float64 or both float32"
        )
    check_finite(theta, "theta")
    check_finite(head, "head")
    (theta, of_theta), (head, of_head) = normalised(theta), normalised(head, tuple(range(-head.ndim, 0)))
    absorbed = jnp.linalg.solve(theta, head)
    # One step of iterative refinement removes what the pivoting let grow.
    absorbed = absorbed + jnp.linalg.solve(theta, head - product(theta, absorbed))
    length = jnp.linalg.norm(head)
    error = float(jnp.linalg.norm(product(theta, absorbed) - head) / jnp.where(length > 0, length, 1))
    allowed = TOLERANCE[np.dtype(theta.dtype)]
    if not error <= allowed:
        raise InputError(
            f"theta: is too close to singular to be absorbed, primary outputs would be off by {error:.1e} (allowed "
            f"{allowed:.0e}); use float64, a smaller budget or a larger ridge"
        )
    absorbed = scaled(absorbed, of_head - of_theta)
    if not jnp.isfinite(absorbed).all():
        raise InputError(
            f"theta: is too small for the head, which leaves the range of {absorbed.dtype}; scale one of them"
        )
    return absorbed


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

    def refitted(self, theta: np.ndarray, features: np.ndarray) -> "Head":
        """The head, float32, whose logits on features theta come nearest to this one's on features (`head_refit`), in float64.

        Args:
          theta: shape (d, d), of any rank.
          features: published ones of primary training images, shape (N, d).
        """
        found = refit(*(jnp.asarray(array, jnp.float64) for array in (theta, self.kernel, features)))
        return Head(np.asarray(found.kernel, np.float32), np.asarray(self.bias + np.asarray(found.shift), np.float32))

    def behind(self, theta: np.ndarray, features: np.ndarray) -> "Head":
        """`absorbed` where theta is invertible, so that nothing changes, and otherwise `refitted`; arguments as there."""
        return self.refitted(theta, features) if is_singular(theta) else self.absorbed(theta)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Shape (N, classes), float32."""
        return np.asarray(features, np.float32) @ np.asarray(self.kernel, np.float32) + self.bias


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


def primary_kept(before: np.ndarray, after: np.ndarray, labels: np.ndarray) -> PrimaryKept:
    """Compares float32 logits of shape (N, classes) before and after, for labels of shape (N,)."""
    change = np.linalg.norm(after - before, axis=1) / np.maximum(np.linalg.norm(before, axis=1), 1e-30)
    accuracy_before, accuracy_after = (float(np.mean(logits.argmax(1) == labels)) for logits in (before, after))
    largest = float(change.max())
    return PrimaryKept(accuracy_before, accuracy_after, largest, largest <= UNCHANGED)
