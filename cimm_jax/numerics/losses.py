"""Losses of a linear probe: functions of (scores, targets), both of shape (N,) or (N, C), returning a scalar."""

from collections.abc import Callable

import jax
import optax

__all__ = ["Loss", "logistic", "softmax", "squared"]

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def squared(scores: jax.Array, targets: jax.Array) -> jax.Array:
    """Half the mean squared error, the l2 loss of the paper: its Hessian in the probe is theta^T K theta / N."""
    return optax.losses.l2_loss(scores, targets).mean()


def logistic(scores: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean logistic loss; targets are -1 and +1 (values between are soft labels)."""
    return optax.losses.sigmoid_binary_cross_entropy(scores, (targets + 1) / 2).mean()


def softmax(scores: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy; scores (N, C), targets -1 and +1 with +1 at the class, as the other losses take them."""
    return optax.losses.softmax_cross_entropy(scores, (targets + 1) / 2).mean()
