"""Methods that lower one number of harmful features and labels: of a linear map's features, and of every trained block's."""

from collections.abc import Callable

import jax
import optax

from cimm_jax.methods._penalised import Term, View, penalised
from cimm_jax.methods.protocol import Method
from cimm_jax.numerics import losses
from cimm_jax.numerics.penalty import Penalty, check_weight
from cimm_jax.numerics.products import product
from cimm_jax.tasks import TaskPair

__all__ = ["MOST_ROWS", "RECIPE", "WEIGHT", "hiding"]

WEIGHT = 30.0
"""Of a number between 0 and 1 or so, beside a primary loss of 1 and 8 times the distance of the published outputs."""

MOST_ROWS = 512
"""Of a linear map's batch that are looked at: the cost grows with their cube."""

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


def hiding(
    lowered: Callable[[jax.Array, jax.Array], jax.Array],
    weight: float | None,
    *,
    optimizer: optax.GradientTransformation | None,
    loss: losses.Loss,
) -> Method:
    """The method that lowers a number without a unit.

    Args:
      lowered: of features, shape (B, d), and targets, shape (B, C), a scalar.
      weight: of it, `lambda_harmful` in messages; None balances it.
      optimizer: of linear maps; None is `default_optimizer()`.
      loss: primary loss of linear maps.

    Raises:
      InputError: if the weight is out of range.
    """
    weight = check_weight(weight, "lambda_harmful")

    def direction(theta: jax.Array, view: View) -> jax.Array:
        x, y = map(_some_rows, view.batch.harmful)
        return jax.grad(lambda at: lowered(product(x, at), _columns(y)))(theta)

    def value(batch: TaskPair) -> jax.Array:
        return lowered(batch.harmful.x, _columns(batch.harmful.y))

    value.__qualname__ = lowered.__qualname__  # what checkpoints tell penalties apart by
    penalties = (Penalty(value, weight, everywhere=True),)
    method = penalised([Term(direction, weight)], optimizer=optimizer, loss=loss, penalties=penalties)
    return method._replace(recipe=RECIPE)


def _columns(y: jax.Array) -> jax.Array:
    return y if y.ndim == 2 else y[:, None]


def _some_rows(values: jax.Array) -> jax.Array:
    return values[:: -(-len(values) // MOST_ROWS)]
