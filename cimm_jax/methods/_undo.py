"""The baseline UNDO (Lee et al., 2025): unlearn, put noise into the weights, distil the outputs back into them."""

import jax
import jax.numpy as jnp

from cimm_jax.methods._blocks_alone import HEAD_STEPS, blocks_alone, check_share
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics.penalty import Opposed, check_weight
from cimm_jax.numerics.trained_weights import Renewal


@reused
def undo(
    *,
    lambda_harmful: float | None = 1.0,
    shrink: float = 0.6,
    noise: float = 0.1,
    unlearning: float = 0.5,
    head_steps: int = HEAD_STEPS,
) -> Method:
    """Unlearn, then replace a part of every trained weight by noise, then distil the unlearned outputs back on primary images.

        theta <- (1 - shrink) theta + shrink noise theta_0,     theta_0 freshly initialised

    To unlearn, a softmax head of the harmful classes, which is trained beside the network, is brought to say nothing: KL of
    its probabilities from equal ones. Distilled are the primary outputs, on primary images and beside their labels; the paper's
    language models distil all that they are to say. It trains blocks of a network, and makes no maps.

    Args:
      lambda_harmful: weight of the divergence; None balances it, as in `algorithm1`.
      shrink: alpha of the paper, the share of a weight that goes; 1 leaves nothing but fresh weights, times `noise`.
      noise: beta of the paper.
      unlearning: share of the steps before the noise.
      head_steps: of the head, for each of the network's.

    Raises:
      InputError: if a setting is out of range.
    """
    check_share(shrink, "shrink")
    check_share(unlearning, "unlearning", below_one=True)
    check_weight(noise, "noise")
    renewal = Renewal(shrink, noise, unlearning)
    return blocks_alone(from_equal, "undo", weight=lambda_harmful, head_steps=head_steps, renewal=renewal)


def from_equal(shown: Opposed) -> jax.Array:
    """Mean KL divergence of the kept head's probabilities from equal ones, a scalar of at least 0."""
    said = jax.nn.log_softmax(shown.scores)
    return -jnp.log(said.shape[1]) - said.mean()
