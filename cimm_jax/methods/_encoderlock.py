"""The baseline EncoderLock (Ding et al., 2025): few weights, which the harmful task needs, against a head kept."""

import jax
import jax.numpy as jnp

from cimm_jax.errors import check_count
from cimm_jax.methods._blocks_alone import HEAD_STEPS, blocks_alone, check_positive, check_share, harmful_loss
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics.penalty import Opposed
from cimm_jax.numerics.trained_weights import FewWeights

_LEAST_LOSS = 1e-3
"""Added to the harmful loss that is divided by."""


@reused
def encoderlock(
    *,
    lambda_harmful: float | None = 1.0,
    share: float = 0.01,
    rounds: int = 5,
    alpha: float = 1e3,
    head_steps: int = HEAD_STEPS,
) -> Method:
    """Move a few weights alone, chosen for the harmful task and against the primary one, to raise a trained head's loss.

        L_primary + log(1 + alpha L_primary / L_harmful)

    The supervised form. Weights are chosen by the ratio of both gradients in rounds, as many in each; biases and the
    published head stay. L_harmful is that of a softmax head on the features, which is trained in alternation and so
    challenges the network again and again; in the paper it is trained anew after some rounds, and the better one is kept.
    It trains blocks of a network, and makes no maps.

    Args:
      lambda_harmful: weight of the logarithm; None balances it, as in `algorithm1`.
      share: of the weights of the trained blocks, that move in the end.
      rounds: in which they are chosen, in the first half of the steps.
      alpha: of the paper.
      head_steps: of the head, for each of the network's.

    Raises:
      InputError: if a setting is out of range.
    """
    check_share(share, "share")
    check_count(rounds, "rounds")
    check_positive(alpha=alpha)

    def value(shown: Opposed) -> jax.Array:
        return jnp.log1p(alpha * shown.primary_loss / (harmful_loss(shown) + _LEAST_LOSS))

    few = FewWeights(share, rounds)
    return blocks_alone(value, f"encoderlock of {alpha}", weight=lambda_harmful, head_steps=head_steps, few=few)
