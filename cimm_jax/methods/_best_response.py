"""The best response: training against the head that an attacker would fit, in closed form, at every layer that is trained."""

import jax
import optax

from cimm_jax.closed_form.explained_share import kernel_share, linear_share
from cimm_jax.methods._penalised import Term, View, default_optimizer, penalised
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses
from cimm_jax.numerics.penalty import Penalty, check_weight
from cimm_jax.numerics.products import product
from cimm_jax.tasks import TaskPair

WEIGHT = 30.0
"""Of the shares explained, beside a primary loss of 1 and 4 times the distance of the published outputs."""

MOST_ROWS = 512
"""Of a linear map's batch that heads look at: their cost grows with the cube."""

RECIPE = (
    ("steps", 200),
    ("batch_rows", 160),
    ("harmful_rows", 384),
    ("in_pairs", True),
    ("learning_rate", 0.05),
    ("warmup", 0.0),
    ("distillation", 8.0),
    ("longest_gradient", 1.0),
)
"""Settings of `networks.training.TrainingSettings` with which ResNet20 was defended (docs/results.md)."""


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

    def lowered(theta: jax.Array, view: View) -> jax.Array:
        x, y = map(_some_rows, view.batch.harmful)
        return jax.grad(lambda at: explained(product(x, at), y))(theta)

    weight = check_weight(lambda_harmful, "lambda_harmful")
    penalties = (Penalty(_explained_of_batch, weight, everywhere=True),)
    method = penalised([Term(lowered, weight)], optimizer=optimizer, loss=loss, penalties=penalties)
    return method._replace(recipe=RECIPE)


def explained(x: jax.Array, y: jax.Array) -> jax.Array:
    """The share of the targets that a linear head explains, and that of a kernel; their sum.

    Args:
      x: features, shape (B, d).
      y: targets, shape (B,) or (B, C).
    """
    y = y if y.ndim == 2 else y[:, None]
    return linear_share(x, y) + kernel_share(x, y)


def _explained_of_batch(batch: TaskPair) -> jax.Array:
    return explained(*batch.harmful)


def _some_rows(values: jax.Array) -> jax.Array:
    return values[:: -(-len(values) // MOST_ROWS)]
