"""The best response: training against the head that an attacker would fit, in closed form, at every layer that is trained."""

import jax
import optax

from cimm_jax.closed_form.explained_share import kernel_share, linear_share
from cimm_jax.methods._hiding import WEIGHT, hiding
from cimm_jax.methods._penalised import default_optimizer
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses


@reused(optimizer=default_optimizer)
def best_response(
    *,
    lambda_harmful: float | None = WEIGHT,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
) -> Method:
    """Lower what the attacker's best head explains of the harmful labels, on rows that it was not fitted on.

    A head that descends reaches, in time, what the closed form has at once. So its share of the labels' variance
    (`closed_form.explained_share`), by a linear head and by one on a Gaussian kernel, is what training lowers, differentiated
    through the solve; of trained blocks at the outputs of every one of them, so that no layer is left to read. What is not in
    the features any more cannot be brought back by whitening, solving or merging layers; it can be learned again, by whoever
    trains the network on images enough.

    A linear map can hide from a linear head (`erase` does it exactly) and hardly from a kernel: of data, train an extractor
    that is not linear.

    Args:
      lambda_harmful: weight of the mean share explained, of each kind of head; None balances it, as in `algorithm1`.
      optimizer: of linear maps, any optax optimizer; None is `default_optimizer()`.
      loss: primary loss of linear maps.

    Raises:
      InputError: if a setting is out of range.
    """
    return hiding(explained, lambda_harmful, optimizer=optimizer, loss=loss)


def explained(x: jax.Array, y: jax.Array) -> jax.Array:
    """The share of the targets that a linear head explains, and that of a kernel; their sum.

    Args:
      x: features, shape (B, d).
      y: targets, shape (B, C).
    """
    return linear_share(x, y) + kernel_share(x, y)
