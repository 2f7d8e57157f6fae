"""The baseline NTL (non-transferable learning; Wang et al., 2022): far from the primary features, and a high harmful loss."""

import jax
import jax.numpy as jnp

from cimm_jax.methods._blocks_alone import HEAD_STEPS, blocks_alone, check_positive, harmful_loss
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics.distances import squared_distances
from cimm_jax.numerics.penalty import Opposed

_WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the kernels whose sum measures a distance, times the mean squared distance of two rows."""


@reused
def ntl(
    *,
    lambda_harmful: float | None = 1.0,
    harmful_scale: float = 0.1,
    distance_scale: float = 0.1,
    bound: float = 1.0,
    head_steps: int = HEAD_STEPS,
) -> Method:
    """Raise the harmful loss times the distance of harmful from primary features, up to a bound: non-transferable learning.

        L_primary - min(bound, harmful_scale L_harmful min(bound, distance_scale MMD(primary, harmful)))

    It is the target-specified form, with the paper's scales and bounds. There the harmful task has the primary one's classes,
    and the network's own head L_harmful. Here the classes are its own: a softmax head is trained beside the network and
    kept, and lowers what the network raises. It trains blocks of a network, and makes no maps.

    Args:
      lambda_harmful: weight of the second term; None balances it, as in `algorithm1`.
      harmful_scale: alpha of the paper.
      distance_scale: alpha' of the paper.
      bound: of both, beta and beta' of the paper; what is above it has no gradient.
      head_steps: of the head, for each of the network's.

    Raises:
      InputError: if a setting is out of range.
    """
    check_positive(harmful_scale=harmful_scale, distance_scale=distance_scale, bound=bound)

    def value(shown: Opposed) -> jax.Array:
        distance = jnp.minimum(bound, distance_scale * mean_discrepancy(shown.batch.primary.x, shown.batch.harmful.x))
        return -jnp.minimum(bound, harmful_scale * harmful_loss(shown) * distance)

    called = f"ntl of {harmful_scale}, {distance_scale}, {bound}"
    return blocks_alone(value, called, weight=lambda_harmful, head_steps=head_steps)


def mean_discrepancy(a: jax.Array, b: jax.Array) -> jax.Array:
    """The squared maximum mean discrepancy of two samples under a sum of five Gaussian kernels, a scalar of 0 to 10.

    The kernels are as wide as the rows are apart on the average, and up to four times more or less, so that it does not
    depend on the features' scale.

    Args:
      a: shape (N, d).
      b: shape (M, d).
    """
    both = jnp.concatenate([a, b])
    squares = squared_distances(both, both)
    mean = jax.lax.stop_gradient(squares.sum() / (len(both) * (len(both) - 1)))
    apart = squares / jnp.where(mean > 0, mean, 1)
    kernel = sum((jnp.exp(-apart / width) for width in _WIDTHS), jnp.zeros_like(apart))
    own, other, between = kernel[: len(a), : len(a)], kernel[len(a) :, len(a) :], kernel[: len(a), len(a) :]
    return own.mean() + other.mean() - 2 * between.mean()
