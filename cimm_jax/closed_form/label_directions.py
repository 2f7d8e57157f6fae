"""Where labels are: the directions of the features that covary with them, in units of the primary task.

A linear head with an intercept gets nothing out of features whose covariance with the labels is zero (docs/theory.md,
section 9). So the range of Cov(x, z) is what has to go. Everything here is centred, and lives in coordinates in which the
covariance of the primary inputs (plus a ridge) is the identity: there, the squared length of a label's direction is what a head
explains of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.label_ridge import choose_label_ridge
from cimm_jax.numerics.decompositions import eigh, right_svd, svd
from cimm_jax.numerics.hessian import covariance
from cimm_jax.numerics.inputs import as_task
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised
from cimm_jax.numerics.spectra import rounding_tolerance
from cimm_jax.tasks import Task

__all__ = [
    "LabelDirections",
    "OwnSignal",
    "centred_columns",
    "covariance_roots",
    "find_directions",
    "orthonormal_range",
]


class OwnSignal(NamedTuple):
    """A harmful task's labels and inputs in units of its own.

    Attributes:
      covariance: Cov(x), shape (d, d).
      labels: Cov(x, z), shape (d, C), over the length of the labels.
    """

    covariance: jax.Array
    labels: jax.Array


class LabelDirections(NamedTuple):
    """Both tasks' label directions in the primary task's units.

    Attributes:
      whitening: (Cov(x_P) + ridge)^{-1/2}, shape (d, d), symmetric.
      colouring: its inverse.
      ridge: relative to the mean eigenvalue of Cov(x_P), scalar.
      primary: whitened Cov(x_P, y), shape (d, C_P), over the length of the labels: the sum of squares is the share of their
        variance that the best head explains.
      harmful: the same of the harmful labels, on the harmful rows, shape (d, C_H).
      mean: whitened mean of the primary inputs, shape (d, 1): (K + m m^T)^{-1} m is along K^{-1} m, so this is where heads
        without an intercept get their constant from.
      basis: orthonormal basis of the whitened range of the harmful labels, shape (d, m), m = min(d, C_H); columns beyond the
        rank are zero.
      rank: how many directions the harmful labels have, int32.
      own: of each harmful task.
      exponent: the primary inputs were divided by 2^exponent; int32.
    """

    whitening: jax.Array
    colouring: jax.Array
    ridge: jax.Array
    primary: jax.Array
    harmful: jax.Array
    mean: jax.Array
    basis: jax.Array
    rank: jax.Array
    own: tuple[OwnSignal, ...]
    exponent: jax.Array


def find_directions(
    primary: Task, harmful: Task | Sequence[Task], *, ridge: float | jax.Array | None = None
) -> LabelDirections:
    """Where the labels of both tasks are. Pure.

    Args:
      primary: inputs of shape (N, d) and targets of shape (N,) or (N, C), as `inputs.as_array` takes them.
      harmful: the same; several tasks, each on rows of its own, may be given as a sequence.
      ridge: added to Cov(x_P), relative to its mean eigenvalue; None chooses it on held-out primary rows (`label_ridge`).

    Raises:
      InputError: if something is no array of real numbers.
    """
    several = [harmful] if isinstance(harmful, Task) else list(harmful)
    primary = as_task(primary, "primary")
    several = [as_task(task, f"harmful[{number}]") for number, task in enumerate(several)]
    inputs, exponent = normalised(primary.x)
    x, y = centred_columns(inputs), _unit_length(primary.y)
    chosen = choose_label_ridge(x, y) if ridge is None else jnp.asarray(ridge, x.dtype)
    rows = len(x)
    whitening, colouring = covariance_roots(covariance(x) / rows, chosen)
    own = tuple(_own_signal(task) for task in several)
    signals = [product(whitening, task.labels) for task in own]
    basis, rank = orthonormal_range(jnp.concatenate(signals, axis=1))
    return LabelDirections(
        whitening=whitening,
        colouring=colouring,
        ridge=chosen,
        primary=product(whitening, product(x.T, y)) / rows**0.5,
        harmful=jnp.concatenate(signals, axis=1),
        mean=product(whitening, inputs.mean(0)[:, None]),
        basis=basis,
        rank=rank,
        own=own,
        exponent=exponent,
    )


@jax.jit
def orthonormal_range(columns: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An orthonormal basis of the range of (d, n) columns, shape (d, min(d, n)), zero beyond the rank; and the rank, int32.

    Every column counts alike, however short it is.
    """
    lengths = jnp.linalg.norm(columns, axis=0)
    u, sigma, _ = svd(columns / jnp.where(lengths > 0, lengths, 1)[None, :])
    kept = sigma > rounding_tolerance(max(columns.shape), sigma.dtype) * jnp.maximum(sigma[0], 1)
    return jnp.where(kept[None, :], u, 0), kept.sum(dtype=jnp.int32)


def centred_columns(values: jax.Array) -> jax.Array:
    """Values of shape (N,) or (N, C) as (N, C) minus the mean of each column."""
    values = values.reshape(values.shape[0], -1)
    return values - values.mean(0)[None, :]


@jax.jit
def covariance_roots(k: jax.Array, ridge: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(K + ridge)^{-1/2} and (K + ridge)^{1/2} of a formed covariance (d, d), the ridge relative to its mean eigenvalue.

    Without a ridge, what rounding makes of a zero stands in for one.
    """
    sigma, vectors = eigh(k)
    floor = rounding_tolerance(len(k), k.dtype) * sigma[-1]
    roots = jnp.sqrt(jnp.maximum(jnp.maximum(sigma, 0) + ridge * sigma.mean(), floor))
    whitening, colouring = (product(vectors * weights[None, :], vectors.T) for weights in (1 / roots, roots))
    return whitening, colouring


@jax.jit
def _own_signal(task: Task) -> OwnSignal:
    x, labels = centred_columns(normalised(task.x).values), _unit_length(task.y)
    signal = product(x.T, labels)
    # Labels that have nothing in common with the inputs leave rounding.
    rounding = 4 * max(x.shape) ** 0.5 * float(jnp.finfo(x.dtype).eps) * jnp.linalg.norm(x)
    kept = jnp.linalg.norm(signal, axis=0) > rounding * jnp.linalg.norm(labels, axis=0)
    return OwnSignal(covariance(x) / len(x), jnp.where(kept[None, :], signal, 0) / len(x) ** 0.5)


@jax.jit
def _unit_length(targets: jax.Array) -> jax.Array:
    """Centred targets (N, C) over their length, in their principal columns, which are zero where rounding decides.

    The columns of one-hot labels add up to a constant: centred, one combination of them is rounding, which must not become a
    direction.
    """
    values = normalised(targets.reshape(targets.shape[0], -1)).values
    centred = centred_columns(values)
    sigma, vt = right_svd(centred)
    rounding = 4 * max(values.shape) ** 0.5 * float(jnp.finfo(values.dtype).eps)
    kept = sigma > rounding * jnp.linalg.norm(values)
    length = jnp.linalg.norm(jnp.where(kept, sigma, 0))
    return jnp.where(kept[None, :], product(centred, vt.T), 0) / jnp.where(length > 0, length, 1)
