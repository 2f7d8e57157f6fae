"""The ridge of the closed form, chosen on held-out rows of the primary task.

A whitened extractor makes directions that the sample hardly has as prominent as any other; a ridge holds them back, at the
price of protection. How much is right is a question about the shape of K_P, not its scale, so each candidate is judged by
the angular central Gaussian likelihood of held-out rows (Tyler, 1987): with S = K + ridge on the other rows,

    score(x) = log det S + r log(x^T S^{-1} x / x^T x),

which does not change when S is multiplied by a number, nor when a row is: one outlying row cannot decide. The least ridge
within one standard error of the best score is taken (the one-standard-error rule of Breiman et al., 1984, turned towards
protection). Labels are not looked at. Five folds; one decomposition a fold serves all candidates.
"""

from collections.abc import Iterable, Sequence
from functools import partial, reduce
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from cimm_jax.closed_form.pencil import feature_spectrum
from cimm_jax.numerics.condensing import Condensed, condense, filled_up
from cimm_jax.numerics.hessian import covariance
from cimm_jax.numerics.inputs import as_matrix, check_finite
from cimm_jax.numerics.meshes import axes_of_rows, on_one_device
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised, scaled
from cimm_jax.numerics.spectra import eigenpairs
from cimm_jax.numerics.tall_qr import is_tall
from cimm_jax.tasks import Array, Task

__all__ = ["CANDIDATES", "FOLDS", "RidgePath", "choose_ridge", "choose_ridge_in_chunks"]

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
        folds in turn. Spread over devices by rows, it is not copied to one (`tall_qr`).

    Raises:
      InputError: if x is no matrix of real numbers or, when it is concrete, not finite.
    """
    if is_tall(x):
        condensed = condense([Task(x)], folds=FOLDS)
        check_finite(condensed.folds, "x")
        return choose_ridge_in_chunks(condensed, [x])
    return _path(as_matrix(x, "x"))


@jax.jit
def _path(x: jax.Array) -> RidgePath:
    x = normalised(x).values  # the score has no scale, but the squares that it is made of
    rows, features = x.shape
    folds = min(FOLDS, rows)
    inside, rank = _range_of(x)
    z = product(x, inside)
    parts = [z[fold::folds] for fold in range(folds)]
    models = _models([covariance(part) for part in parts], rank, features)
    by_row = jnp.concatenate([_scores(model, part, rank) for model, part in zip(models, parts, strict=True)], axis=1)
    # Rows of zeros say nothing, and are not counted: data may be filled up with them.
    present = jnp.concatenate([part.any(1) for part in parts])
    count = jnp.maximum(present.sum(), 1).astype(x.dtype)
    score = by_row.sum(1) / count
    best = jnp.argmin(score)
    deviation = jnp.sqrt(jnp.where(present, jnp.square(by_row[best] - score[best]), 0).sum() / count)
    return _chosen(score, deviation / jnp.sqrt(count))


def choose_ridge_in_chunks(condensed: Condensed, chunks: Iterable[Array]) -> RidgePath:
    """What `choose_ridge` says of all rows, which are read once more in chunks.

    Args:
      condensed: the rows, in `FOLDS` folds.
      chunks: their inputs in order, shape (n, d), n the same multiple of `FOLDS` in all but the last, which may be shorter.
    """
    x, exponent = normalised(condensed.task.x)
    features = x.shape[1]
    inside, rank = _range_of(x)
    factors = scaled(condensed.folds, -exponent)
    models = _models([covariance(product(factor, inside)) for factor in factors], rank, features)
    none = jnp.zeros(len(CANDIDATES), x.dtype)
    size, sums = 0, _Sums(none, none, jnp.zeros((), x.dtype))
    for chunk in chunks:
        size = size or -(-len(chunk) // len(factors)) * len(factors)
        if is_tall(chunk):
            found = _sums_where_they_are(models, chunk, inside, rank, exponent)
        else:
            filled = jnp.asarray(filled_up(chunk, size), x.dtype)  # rows of zeros score 0
            found = _summed(models, scaled(filled, -exponent), inside, rank)
        sums = jax.block_until_ready(jax.tree.map(jnp.add, sums, found))  # no chunk waits in memory
    sums = sums._replace(rows=jnp.maximum(sums.rows, 1))
    score = sums.score / sums.rows
    best = jnp.argmin(score)
    deviation = jnp.sqrt(jnp.maximum(sums.squared[best] / sums.rows - score[best] ** 2, 0))
    return _chosen(score, deviation / jnp.sqrt(sums.rows))


class _Model(NamedTuple):
    """What scores rows: the covariance of other rows with every candidate.

    Attributes:
      vectors: its eigenvectors in columns, shape (r, r).
      shifted: its eigenvalues and the ridges, shape (candidates, r).
      determinant: log det S, shape (candidates,).
    """

    vectors: jax.Array
    shifted: jax.Array
    determinant: jax.Array


def _range_of(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A basis of the range of all rows, outside which no row says anything, filled up with zeros; and its dimension."""
    spectrum = feature_spectrum(x)
    counts = jnp.arange(len(spectrum.sigma), dtype=jnp.int32) < spectrum.rank
    return jnp.where(counts[None, :], spectrum.vectors, 0), spectrum.rank.astype(x.dtype)


def _models(covariances: Sequence[jax.Array], rank: jax.Array, features: int) -> list[_Model]:
    """For each fold, of all other folds."""
    given = list(covariances)
    # The others are added up: subtracting the part from the whole would lose digits to one long row.
    return [_model(reduce(jnp.add, given[:fold] + given[fold + 1 :]), rank, features) for fold in range(len(given))]


def _model(k: jax.Array, rank: jax.Array, features: int) -> _Model:
    sigma, vectors = eigenpairs(k)
    ridge = jnp.asarray(CANDIDATES, k.dtype) * sigma.sum() / features
    shifted = sigma[None, :] + ridge[:, None]
    # Coordinates beyond the rank are zero in every row, and each has the ridge as its eigenvalue.
    return _Model(vectors, shifted, jnp.log(shifted).sum(1) - (len(sigma) - rank) * jnp.log(ridge))


def _scores(model: _Model, part: jax.Array, rank: jax.Array) -> jax.Array:
    """The score of each held-out row under each candidate, shape (candidates, n)."""
    squared = jnp.square(product(part, model.vectors))
    lengths = squared.sum(1)
    present = lengths > 0  # a row of zeros has no direction
    form = product(1 / model.shifted, squared.T) / jnp.where(present, lengths, 1)[None, :]
    quadratic = jnp.log(jnp.where(present[None, :], form, 1))
    return jnp.where(present[None, :], model.determinant[:, None] + rank * quadratic, 0)


class _Sums(NamedTuple):
    """Over rows.

    Attributes:
      score: the scores, by candidate, shape (candidates,).
      squared: their squares, the same.
      rows: how many are not zero, a scalar.
    """

    score: jax.Array
    squared: jax.Array
    rows: jax.Array


@jax.jit
def _summed(models: list[_Model], x: jax.Array, inside: jax.Array, rank: jax.Array) -> _Sums:
    """Of rows that are dealt to the folds in turn."""
    z = product(x, inside)
    scores = [_scores(model, z[fold :: len(models)], rank) for fold, model in enumerate(models)]
    return _Sums(
        sum((s.sum(1) for s in scores), jnp.zeros(())),
        sum(((s**2).sum(1) for s in scores), jnp.zeros(())),
        z.any(1).sum().astype(z.dtype),
    )


def _sums_where_they_are(models: list[_Model], x: jax.Array, *others: jax.Array) -> _Sums:
    """The same of rows that are spread over devices; `others` are the range, its dimension and the exponent of x."""
    sharding = cast(NamedSharding, x.sharding)
    everywhere = jax.device_put((models, *others), NamedSharding(sharding.mesh, PartitionSpec()))
    found = _summed_by_device(x, everywhere, sharding.mesh, axes_of_rows(x))
    return jax.tree.map(lambda leaf: on_one_device(leaf).sum(0), found)


@partial(jax.jit, static_argnums=(2, 3))
def _summed_by_device(x: jax.Array, everywhere, mesh, axes: tuple[str, ...]) -> _Sums:
    def of_shard(own: jax.Array, everywhere) -> _Sums:
        models, inside, rank, exponent = everywhere
        first = jax.lax.axis_index(axes) * len(own)  # the number of the first row here
        turned = jax.tree.map(lambda *leaves: jnp.roll(jnp.stack(leaves), -first, axis=0), *models)
        own_models = [jax.tree.map(lambda leaf, fold=fold: leaf[fold], turned) for fold in range(len(models))]
        sums = _summed(own_models, scaled(own, -exponent), inside, rank)
        return jax.tree.map(lambda leaf: leaf[None], sums)

    spread = PartitionSpec(axes)
    return jax.shard_map(of_shard, mesh=mesh, in_specs=(spread, PartitionSpec()), out_specs=spread, check_vma=False)(
        x, everywhere
    )


def _chosen(score: jax.Array, standard_error: jax.Array) -> RidgePath:
    candidates = jnp.asarray(CANDIDATES, score.dtype)
    chosen = jnp.argmax(score <= score.min() + standard_error)
    return RidgePath(candidates[chosen], candidates, score, standard_error)
