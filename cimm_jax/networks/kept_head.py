"""A head of the harmful classes that is trained beside the network, for penalties that look at one (`numerics.penalty`)."""

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.explained_share import standardised
from cimm_jax.numerics.penalty import KeptHead, Opposed
from cimm_jax.numerics.products import product
from cimm_jax.numerics.softmax_head import softmax_steps
from cimm_jax.tasks import TaskPair

__all__ = ["first_head", "opposed"]


def first_head(width: int, classes: int) -> jax.Array:
    """The head before its first step: zero, shape (width, classes)."""
    return jnp.zeros((width, classes), jnp.float32)


def opposed(head: jax.Array, kept: KeptHead, batch: TaskPair, primary_loss: jax.Array) -> tuple[jax.Array, Opposed]:
    """The head after its steps on a batch, and what a penalty is shown of it.

    Args:
      head: shape (d, C).
      kept: how it is trained.
      batch: features of shape (B, d) of both tasks, and one-hot harmful targets; standardised over the batch for the head.
      primary_loss: passed on.
    """
    x = standardised(batch.harmful.x)
    head = softmax_steps(head, jax.lax.stop_gradient(x), batch.harmful.y, kept.steps)
    return head, Opposed(batch, product(x, head), primary_loss)
