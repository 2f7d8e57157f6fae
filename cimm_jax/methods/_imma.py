"""The baseline IMMA (Zheng and Yeh, ECCV 2024): bi-level training against a harmful probe that adapts."""

import jax
import jax.numpy as jnp
import optax

from cimm_jax.errors import InputError
from cimm_jax.methods._penalised import Term, View, default_optimizer, penalised
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses
from cimm_jax.numerics.penalty import Penalty, check_weight
from cimm_jax.numerics.spectra import largest_eigenpair, smaller_gram
from cimm_jax.tasks import TaskPair


@reused(optimizer=default_optimizer)
def imma(
    *,
    lambda_harmful: float | None = None,
    lower_steps: int = 10,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
) -> Method:
    """A baseline: raise the loss that a few gradient steps of a harmful probe reach.

    Lower level: fit a harmful probe for some gradient steps. Upper level: raise the loss it reached, keep the primary.

    The upper level differentiates through the lower one. The lower level starts from a zero probe and steps with
    1 / sigma_max of its own Hessian, so that no scaling of theta makes it diverge: with a fixed rate the upper level would
    win by making the features large, and an attacker would undo that with a smaller rate.

    Args:
      lambda_harmful: weight of the upper level's harmful term; None balances it, as in `algorithm1`.
      lower_steps: gradient steps of the harmful probe, at least 1.
      optimizer: any optax optimizer; None is `default_optimizer()`.
      loss: loss of both tasks, `losses.squared` or `losses.logistic` (whose curvature is at most a quarter of l2's).

    Raises:
      InputError: if a setting is out of range.
    """
    if lower_steps < 1:
        raise InputError(f"lower_steps: needs at least 1, got {lower_steps}")

    def harmful_loss_reached(theta: jax.Array, view: View) -> jax.Array:
        x, y = view.batch.harmful
        return loss_reached(x @ theta, y, x.shape[0], loss=loss, steps=lower_steps)

    def minus_loss_reached(batch: TaskPair) -> jax.Array:
        features, targets = batch.harmful
        return -loss_reached(features, targets, targets.size, loss=losses.squared, steps=lower_steps)

    raise_loss = jax.grad(lambda theta, view: -harmful_loss_reached(theta, view))
    penalties = (Penalty(minus_loss_reached, check_weight(lambda_harmful, "lambda_harmful")),)
    return penalised([Term(raise_loss, lambda_harmful)], optimizer=optimizer, loss=loss, penalties=penalties)


def loss_reached(features: jax.Array, y: jax.Array, terms: int, *, loss: losses.Loss, steps: int) -> jax.Array:
    """The loss of a probe after some gradient steps from zero, differentiable in the features.

    Args:
      features: shape (N, d).
      y: targets, shape (N,) or (N, C).
      terms: what the steps multiply by over the largest eigenvalue of F^T F, N C for steps of 1 / L of an l2 loss.
      loss: of the probe.
      steps: how many.
    """
    rate = terms / largest_eigenpair(smaller_gram(jax.lax.stop_gradient(features))).sigma

    def fit(probe, _):
        return probe - rate * jax.grad(lambda w: loss(features @ w, y))(probe), None

    start = jnp.zeros((features.shape[1], *y.shape[1:]), features.dtype)
    probe, _ = jax.lax.scan(fit, start, length=steps)
    return loss(features @ probe, y)
