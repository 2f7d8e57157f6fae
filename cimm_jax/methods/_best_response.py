"""The best response: training against the head that an attacker would fit, in closed form, at every layer that is trained."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax

from cimm_jax.closed_form.explained_share import kernel_share, linear_share
from cimm_jax.errors import InputError
from cimm_jax.methods._fine_tuned import RATES, fine_tuner
from cimm_jax.methods._hiding import WEIGHT, hiding
from cimm_jax.methods._penalised import default_optimizer
from cimm_jax.methods._sophon import inverse_likelihood, likelihood
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses
from cimm_jax.numerics.penalty import Penalty

HEADS = {
    "linear": linear_share,
    "unscaled": partial(linear_share, standardise=False),
    "kernel": kernel_share,
    "whitened": partial(kernel_share, whiten=True),
}
"""In closed form, by the names that `best_response` knows them by."""

GOALS = {"explained": linear_share, "likelihood": likelihood}
"""What an attacker who fine-tunes makes larger."""

LIKELIHOOD_WEIGHT = 10.0
"""Of an inverse cross-entropy of 1 or so."""


@reused(optimizer=default_optimizer)
def best_response(
    *,
    lambda_harmful: float | None = WEIGHT,
    heads: tuple[str, ...] = ("linear", "kernel"),
    fine_tuning_steps: int = 0,
    fine_tuning_rates: tuple[float, ...] = RATES,
    fine_tuning_images: int | None = None,
    fine_tuning_goal: str = "explained",
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
) -> Method:
    """Lower what the attacker's best head explains of the harmful labels, on rows that it was not fitted on.

    A head that descends reaches, in time, what the closed form has at once. So its share of the labels' variance
    (`closed_form.explained_share`), by a linear head and by one on a Gaussian kernel, is what training lowers, differentiated
    through the solve; of trained blocks at the outputs of every one of them, so that no layer is left to read. What is not in
    the features any more cannot be brought back by whitening, solving or merging layers; it can be learned again, by whoever
    trains the network on images enough.

    A linear map can hide from a linear head (`erase` does it exactly) and hardly from a kernel. Of plain features, train an
    extractor that is not linear, residual blocks that begin as the identity: `cimm immunize --extractor residual`, or
    `cimm_jax.protect(..., method="best_response", extractor="residual")`. It hides from whoever has its outputs alone: the
    features that go into it are what they were.

    Args:
      lambda_harmful: weight of the mean share explained, of each kind of head; None balances it, as in `algorithm1`.
      heads: whose shares are summed, of `HEADS`: "unscaled" is ridge regression on features as they are, which reads many
        classes from few images better than one on standardised features; "whitened" is a kernel that reads directions which
        hardly vary.
      fine_tuning_steps: of trained blocks, steps that an attacker makes from the present weights, to make larger what a linear
        head explains, before the share is looked at once more (first-order meta-learning); 0 is no such attacker.
      fine_tuning_rates: length of these steps; training takes one after the other.
      fine_tuning_images: how many images of a batch that attacker has; None is half of it.
      fine_tuning_goal: what that attacker wants, of `GOALS`: "explained", the share of a linear head, which is then lowered
        with the same weight; or "likelihood", as `sophon` has it, of weight `LIKELIHOOD_WEIGHT`.
      optimizer: of linear maps, any optax optimizer; None is `default_optimizer()`.
      loss: primary loss of linear maps.

    Raises:
      InputError: if a setting is out of range.
    """
    if not heads or len(set(heads)) < len(heads) or not set(heads) <= HEADS.keys():
        raise InputError(f"heads: needs some of {', '.join(HEADS)}, each once, got {', '.join(heads) or 'none'}")
    if fine_tuning_goal not in GOALS:
        raise InputError(f"fine_tuning_goal: needs one of {', '.join(GOALS)}, got {fine_tuning_goal}")
    wanted = GOALS[fine_tuning_goal]
    attacker = fine_tuner(wanted, fine_tuning_steps, fine_tuning_rates, fine_tuning_images, least=0)
    explained = explained_by(heads)
    method = hiding(explained, lambda_harmful, optimizer=optimizer, loss=loss)
    if not fine_tuning_steps or method.penalties is None:
        return method
    (looked_at,) = method.penalties
    behind = looked_at._replace(everywhere=False, after=attacker)
    if wanted is likelihood:
        behind = Penalty(inverse_likelihood, LIKELIHOOD_WEIGHT, after=attacker)
    return method._replace(penalties=(looked_at, behind))


def explained_by(heads: tuple[str, ...]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The function of features, shape (B, d), and targets, shape (B, C), that sums the shares of these heads."""

    def explained(x: jax.Array, y: jax.Array) -> jax.Array:
        return sum((HEADS[head](x, y) for head in heads), jnp.zeros((), x.dtype))

    explained.__qualname__ = f"explained by {', '.join(heads)}"  # what checkpoints tell them apart by
    return explained
