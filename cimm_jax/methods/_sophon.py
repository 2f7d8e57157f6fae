"""The baseline SOPHON (Deng et al., 2024): whoever fine-tunes shall end where nothing is classified."""

import jax
import jax.numpy as jnp
import optax

from cimm_jax.methods._fine_tuned import RATES, fine_tuner
from cimm_jax.methods._hiding import RECIPE
from cimm_jax.methods._penalised import Term, View, default_optimizer, penalised
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses
from cimm_jax.numerics.penalty import Penalty, check_weight
from cimm_jax.numerics.products import product
from cimm_jax.numerics.softmax_head import softmax_steps
from cimm_jax.tasks import TaskPair

_LEAST_LEFT = 1e-3
"""Of 1 minus the probability of a class, whose logarithm is taken."""


@reused(optimizer=default_optimizer)
def sophon(
    *,
    lambda_harmful: float | None = None,
    fine_tuning_steps: int = 4,
    fine_tuning_rates: tuple[float, ...] = RATES,
    fine_tuning_images: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
) -> Method:
    """Lower the inverse cross-entropy, -mean log(1 - p_y), that an attacker who has fine-tuned reaches on other rows.

    The attacker raises the likelihood of the harmful labels: by steps of the blocks and of a softmax head in turn, of which the
    blocks' are passed on to first order. With a linear map, by steps of the head alone. The primary loss is kept in the same
    step, where the paper alternates; and the steps of the blocks have a length of their own, where the paper's follow its
    rates. Whoever tunes their rates is not who was trained against.

    Args:
      lambda_harmful: weight of the inverse cross-entropy; None balances it, as in `algorithm1`.
      fine_tuning_steps: of the attacker, at least 1.
      fine_tuning_rates: length of the steps of trained blocks; training takes one after the other.
      fine_tuning_images: how many images of a batch the attacker has; None is half of it. Few are quicker, and what somebody
        with few images does.
      optimizer: of linear maps, any optax optimizer; None is `default_optimizer()`.
      loss: primary loss of linear maps.

    Raises:
      InputError: if a setting is out of range.
    """
    attacker = fine_tuner(likelihood, fine_tuning_steps, fine_tuning_rates, fine_tuning_images, least=1)
    weight = check_weight(lambda_harmful, "lambda_harmful")

    def direction(theta: jax.Array, view: View) -> jax.Array:
        x, y = view.batch.harmful
        return jax.grad(lambda at: inverse_cross_entropy(product(x, at), y))(theta)

    penalties = (Penalty(inverse_likelihood, weight, after=attacker),)
    method = penalised([Term(direction, weight)], optimizer=optimizer, loss=loss, penalties=penalties)
    return method._replace(recipe=RECIPE)


def likelihood(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean log-likelihood that a softmax head fitted to these features gives their labels, a scalar, at most 0.

    Args:
      x: features, shape (B, d).
      y: targets, shape (B,) or (B, C), the class's the largest.
    """
    targets = _one_hot(y)
    return jnp.mean(jnp.sum(targets * _log_probabilities(x, x, targets), 1))


def inverse_likelihood(batch: TaskPair) -> jax.Array:
    """`inverse_cross_entropy` of the harmful features, a scalar."""
    return inverse_cross_entropy(*batch.harmful)


def inverse_cross_entropy(x: jax.Array, y: jax.Array) -> jax.Array:
    """-mean log(1 - p_y) of the second half of the rows, by a softmax head fitted to the first; a scalar of at least 0.

    Args:
      x: features, shape (B, d).
      y: targets, shape (B,) or (B, C), the class's the largest.
    """
    targets = _one_hot(y)
    half = -(-len(x) // 2)
    said = jnp.exp(_log_probabilities(x[:half], x[half:], targets[:half]))
    left = 1 - jnp.sum(targets[half:] * said, 1)
    return -jnp.mean(jnp.log(jnp.maximum(left, _LEAST_LEFT)))


_HEAD_STEPS = 10


def _log_probabilities(fitted: jax.Array, judged: jax.Array, targets: jax.Array) -> jax.Array:
    """By a head of `_HEAD_STEPS` gradient steps on standardised features."""
    mean, spread = fitted.mean(0), jnp.sqrt(jnp.var(fitted, axis=0) + jnp.finfo(fitted.dtype).eps)
    fitted, judged = ((x - mean[None, :]) / spread[None, :] for x in (fitted, judged))
    head = softmax_steps(jnp.zeros((fitted.shape[1], targets.shape[1]), fitted.dtype), fitted, targets, _HEAD_STEPS)
    return jax.nn.log_softmax(product(judged, head))


def _one_hot(y: jax.Array) -> jax.Array:
    columns = jnp.stack([y.ravel(), -y.ravel()], 1) if y.ndim == 1 or y.shape[1] == 1 else y
    return jax.nn.one_hot(columns.argmax(1), columns.shape[1], dtype=y.dtype)
