"""A head for a network that has none: ridge regression of the classes, in closed form, as confident as it is right.

On standardised features, with indicators y of the classes (1 at the class, 0 elsewhere),

    scores = y_mean + (x - x_mean) W,     W = (X^T X + ridge)^{-1} X^T Y,     logits = temperature scores.

The ridge has the least leave-one-out error (`label_ridge`). The temperature makes the mean cross-entropy least, of scores of
rows that W was not fitted to, with targets (N y + 1) / (N + C) of N rows and C classes (Laplace's rule of succession): where
all rows are told apart, the head would be infinitely sure otherwise. A feature that float32 cannot tell from a constant beside
the one that varies most has no weight: networks have some at 1e-33, whose weights would drown all others behind a map.
"""

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.closed_form.heads import Head
from cimm_jax.closed_form.label_ridge import choose_label_ridge
from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import eigh
from cimm_jax.numerics.products import product

__all__ = ["CHOOSING_ROWS", "TEMPERATURES", "fit_head"]

CHOOSING_ROWS = 4000
"""Rows, evenly spaced, that ridge and temperature are chosen on; all of them fit the head."""

TEMPERATURES = tuple(10.0 ** (exponent / 8) for exponent in range(-8, 25))
"""That are tried: 0.1 to 1000, eight a decade."""

_FOLDS = 2


def fit_head(x: np.ndarray, labels: np.ndarray, classes: int) -> Head:
    """The head, float32.

    Args:
      x: features, shape (N, d), float32 or float64.
      labels: shape (N,), integers from 0.
      classes: outputs of the head; one that no row is of gets a constant.

    Raises:
      InputError: if there are fewer rows than two for each fold, or a feature is not finite.
    """
    if len(x) < 2 * _FOLDS:
        raise InputError(f"x: needs at least {2 * _FOLDS} rows to fit a head, got {len(x)}")
    if not np.isfinite(x).all():
        raise InputError("x: has features that are not finite; use other weights")
    every = max(1, -(-len(x) // CHOOSING_ROWS))
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    varies = deviation > np.finfo(np.float32).eps * np.maximum(deviation.max(), np.abs(mean))
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0)
    # Each class about as often in either fold, whatever the order of the rows.
    chosen = np.argsort(labels, kind="stable")[::every]
    indicators = np.eye(classes)[labels]
    ridge, temperature = _chosen(jnp.asarray((x[chosen] - mean) * scale), jnp.asarray(indicators[chosen]))
    shares = indicators.mean(0)
    weights = _fitted(jnp.asarray((x - mean) * scale), jnp.asarray(indicators - shares), ridge)
    kernel = float(temperature) * scale[:, None] * np.asarray(weights)
    bias = float(temperature) * shares - mean @ kernel
    return Head(kernel.astype(np.float32), bias.astype(np.float32))


@jax.jit
def _fitted(x: jax.Array, y: jax.Array, ridge: jax.Array) -> jax.Array:
    """Weights, shape (d, C); the ridge is relative to the mean eigenvalue."""
    values, vectors = eigh(product(x.T, x))
    shifted = jnp.maximum(values, 0) + ridge * values.sum() / len(values)
    inverse = jnp.where(shifted > 0, 1 / jnp.where(shifted > 0, shifted, 1), 0)
    return product(vectors, inverse[:, None] * product(vectors.T, product(x.T, y)))


@jax.jit
def _chosen(x: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The ridge and the temperature, of centred features and indicators."""
    ridge = choose_label_ridge(x, targets - targets.mean(0, keepdims=True))
    folds = [slice(fold, None, _FOLDS) for fold in range(_FOLDS)]
    scores = jnp.concatenate([_scores(x, targets, fold, ridge) for fold in folds])
    rows, classes = targets.shape
    smoothed = (rows * jnp.concatenate([targets[fold] for fold in folds]) + 1) / (rows + classes)
    temperatures = jnp.asarray(TEMPERATURES, x.dtype)
    losses = jax.lax.map(lambda of: -(smoothed * jax.nn.log_softmax(of * scores)).sum(1).mean(), temperatures)
    return ridge, temperatures[jnp.argmin(losses)]


def _scores(x: jax.Array, targets: jax.Array, held: slice, ridge: jax.Array) -> jax.Array:
    """Of the rows of one fold, by what is fitted to the others."""
    others = np.setdiff1d(np.arange(len(x)), np.arange(len(x))[held])
    mean, centre = targets[others].mean(0, keepdims=True), x[others].mean(0, keepdims=True)
    weights = _fitted(x[others] - centre, targets[others] - mean, ridge)
    return mean + product(x[held] - centre, weights)
