"""The baseline HSIC (Gretton et al., 2005; Obliviator, 2026): as independent of the harmful labels as a kernel can tell."""

import jax
import jax.numpy as jnp
import optax

from cimm_jax.closed_form.explained_share import gaussian_kernel, standardised
from cimm_jax.methods._hiding import WEIGHT, hiding
from cimm_jax.methods._penalised import default_optimizer
from cimm_jax.methods.protocol import Method, reused
from cimm_jax.numerics import losses
from cimm_jax.numerics.products import product


@reused(optimizer=default_optimizer)
def hsic(
    *,
    lambda_harmful: float | None = WEIGHT,
    optimizer: optax.GradientTransformation | None = None,
    loss: losses.Loss = losses.squared,
) -> Method:
    """Lower the Hilbert-Schmidt independence criterion between features and harmful labels, normalised.

        tr(K L) / sqrt(tr(K K) tr(L L)),   K a centred Gaussian kernel of the features, L the inner products of centred labels.

    The same training as `best_response`, so that they can be compared: only the number that is lowered differs. It weighs each
    direction of the kernel by its size, where a head that is solved for weighs them alike, and it is biased: labels that
    mean nothing give more than 0.

    Args:
      lambda_harmful: weight of it; None balances it, as in `algorithm1`.
      optimizer: of linear maps, any optax optimizer; None is `default_optimizer()`.
      loss: primary loss of linear maps.

    Raises:
      InputError: if a setting is out of range.
    """
    return hiding(dependence, lambda_harmful, optimizer=optimizer, loss=loss)


def dependence(x: jax.Array, y: jax.Array) -> jax.Array:
    """The criterion, a scalar from 0 to 1; 0 where the labels are all the same.

    Args:
      x: features, shape (B, d).
      y: targets, shape (B, C).
    """
    kernel = gaussian_kernel(standardised(x))
    kernel = kernel - kernel.mean(0, keepdims=True)
    kernel = kernel - kernel.mean(1, keepdims=True)
    y = y - y.mean(0, keepdims=True)
    labels = product(y, y.T)
    size = jnp.square(kernel).sum() * jnp.square(labels).sum()
    usable = size > 0
    return jnp.where(usable, (kernel * labels).sum() * jax.lax.rsqrt(jnp.where(usable, size, 1)), 0)
