"""The ridge of the closed form, chosen on held-out rows of the primary task.

A whitened extractor makes directions that the sample hardly has as prominent as any other; a ridge holds them back, at the
price of protection. How much is right is a question about the shape of K_P, not its scale, so each candidate is judged by
the angular central Gaussian likelihood of held-out rows (Tyler, 1987): with S = K + ridge on the other rows,

    score(x) = log det S + r log(x^T S^{-1} x / x^T x),

which does not change when S is multiplied by a number, nor when a row is: one outlying row cannot decide. The least ridge
within one standard error of the best score is taken (the one-standard-error rule of Breiman et al., 1984, turned towards
protection). Labels are not looked at. Five folds; one decomposition a fold serves all candidates.
"""

from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cimm_jax.closed_form.pencil import feature_spectrum
from cimm_jax.numerics.hessian import covariance
from cimm_jax.numerics.inputs import as_matrix
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised
from cimm_jax.numerics.spectra import eigenpairs

__all__ = ["CANDIDATES", "FOLDS", "RidgePath", "choose_ridge"]

CANDIDATES = tuple(10.0 ** (exponent / 8) for exponent in range(-48, 9))
"""Relative ridges that are tried: 1e-6 to 10, eight a decade."""

FOLDS = 5


class RidgePath(NamedTuple):
    """The candidates and what held-out primary rows say of each.

    Attributes:
      ridge: the one chosen, scalar; relative to the mean eigenvalue of K_P.
      candidates: shape (candidates,), ascending.
      score: mean over held-out rows, shape (candidates,); smaller is better.
      standard_error: of the best score, scalar.
    """

    ridge: jax.Array
    candidates: jax.Array
    score: jax.Array
    standard_error: jax.Array


def choose_ridge(x: jax.Array) -> RidgePath:
    """The least ridge that held-out rows allow. Pure.

    Args:
      x: inputs of the primary task, shape (N, d), N at least 2, as `inputs.as_array` takes them; rows are dealt to min(N, 5)
        folds in turn.

    Raises:
      InputError: if x is no matrix of real numbers or, when it is concrete, not finite.
    """
    x = normalised(as_matrix(x, "x")).values  # the score has no scale, but the squares that it is made of
    rows, features = x.shape
    folds = min(FOLDS, rows)
    candidates = jnp.asarray(CANDIDATES, x.dtype)
    spectrum = feature_spectrum(x)
    size = len(spectrum.sigma)
    counts = jnp.arange(size, dtype=jnp.int32) < spectrum.rank
    inside = jnp.where(counts[None, :], spectrum.vectors, 0)
    # Coordinates in the range of all rows: outside it no row says anything.
    z = product(x, inside)
    parts = [z[fold::folds] for fold in range(folds)]
    covariances = [covariance(part) for part in parts]
    scores = [
        # The others are added up: subtracting the part from the whole would lose digits to one long row.
        _scores(
            reduce(jnp.add, covariances[:fold] + covariances[fold + 1 :]),
            part,
            spectrum.rank.astype(x.dtype),
            candidates,
            features,
        )
        for fold, part in enumerate(parts)
    ]
    by_row = jnp.concatenate(scores, axis=1)
    score = by_row.mean(1)
    best = jnp.argmin(score)
    standard_error = by_row[best].std() / rows**0.5
    chosen = jnp.argmax(score <= score[best] + standard_error)
    return RidgePath(candidates[chosen], candidates, score, standard_error)


def _scores(k: jax.Array, part: jax.Array, rank: jax.Array, candidates: jax.Array, features: int) -> jax.Array:
    """The score of each held-out row under each candidate, shape (candidates, n)."""
    sigma, vectors = eigenpairs(k)
    ridge = candidates * sigma.sum() / features
    shifted = sigma[None, :] + ridge[:, None]
    squared = jnp.square(product(part, vectors))
    lengths = squared.sum(1)
    present = lengths > 0  # a row of zeros has no direction
    form = product(1 / shifted, squared.T) / jnp.where(present, lengths, 1)[None, :]
    # Coordinates beyond the rank are zero in every row, and each has the ridge as its eigenvalue.
    determinant = jnp.log(shifted).sum(1) - (len(sigma) - rank) * jnp.log(ridge)
    quadratic = jnp.log(jnp.where(present[None, :], form, 1))
    return jnp.where(present[None, :], determinant[:, None] + rank * quadratic, 0)
