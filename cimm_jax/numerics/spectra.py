"""Condition numbers under a named policy.

`kappa(S) = ||S||_2 ||S^+||_2 = sigma_max / sigma_min`, with sigma_min the smallest NON-ZERO singular value (Eq. 1 of
Zheng et al., 2025). Which values count as zero is a choice, and on real data it often decides the number. So every
function takes a policy, and every `Spectrum` says which rank the policy saw and whether a floor decided the answer.
Numbers under different policies are not comparable.

Squaring loses digits: kappa(F^T F) = kappa(F)^2. `feature_condition_number` therefore works on the features themselves,
and resolves kappa(F^T F) to about 1e9 in float32 where `condition_number(f.T @ f)` stops near 1e5.
"""

import enum
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from matfree import decomp

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import eigh, mix_columns, qr, singular_values
from cimm_jax.numerics.products import product

__all__ = [
    "FLOOR_WINDOW",
    "RESOLUTION_IN_EPS",
    "Eigen",
    "Policy",
    "PseudoInverse",
    "ReleasedCode",
    "Ridge",
    "Route",
    "Spectrum",
    "TopPair",
    "above_rounding",
    "condition_number",
    "eigenpairs",
    "feature_condition_number",
    "feature_eigenpairs",
    "largest_eigenpair",
    "log_condition_number",
    "log_feature_condition_number",
    "numerical_rank",
    "product_amplification",
    "rounding_tolerance",
    "smaller_gram",
]

RESOLUTION_IN_EPS = 100.0
"""A computed singular value below this many rounding units of the largest may be more than 1 % off."""

FLOOR_WINDOW = 10.0
"""A floor decides the answer if moving it by this factor, either way, changes the rank."""


class Spectrum(NamedTuple):
    """The extreme non-zero singular values of a matrix, as a policy sees them. Every field has the batch shape.

    Attributes:
      kappa: sigma_max / sigma_min; infinity for a zero matrix.
      sigma_max: the largest singular value (after the policy's ridge, if it has one).
      sigma_min: the smallest singular value that the policy counts as non-zero.
      rank: int32, how many singular values the policy counts as non-zero.
      floored: bool, True if a floor or the arithmetic, not the data, decided sigma_min. See each policy.
    """

    kappa: jax.Array
    sigma_max: jax.Array
    sigma_min: jax.Array
    rank: jax.Array
    floored: jax.Array


class _Accuracy(NamedTuple):
    """How well the values at hand were computed, all relative to the largest."""

    zero: float | jax.Array  # a value at most this is a rounded zero; shape (..., 1) if an array
    resolution: float | jax.Array  # a value below this may be more than 1 % off; the same
    trusts_zero: bool  # False in float32, where a value that float64 would resolve also looks like zero


@dataclass(frozen=True)
class PseudoInverse:
    """Eq. 1: singular values at most `rtol * sigma_max` are zero, the rest count.

    `floored` is set when moving the tolerance tenfold either way would change the rank, when sigma_min is too small for
    the arithmetic to resolve within 2 %, and, below float64, whenever a non-zero value was counted as zero (float64
    might have resolved it).

    Attributes:
      rtol: relative to sigma_max of the measured matrix, in [0, 1). None: what rounding makes of a zero, which is
        max(m, n) * eps for a matrix and (2 sqrt(d) eps)^2 for features, whose Hessian is never formed.
    """

    rtol: float | None = None

    def __post_init__(self):
        if self.rtol is not None and not 0 <= self.rtol < 1:
            raise InputError(f"rtol: needs a number in [0, 1), got {self.rtol}; use None for the rounding level")

    def measure(self, sigma: jax.Array, accuracy: _Accuracy) -> Spectrum:
        """Judges singular values in descending order, shape (..., m)."""
        rtol = accuracy.zero if self.rtol is None else self.rtol
        top = sigma[..., :1]
        kept = sigma > rtol * top
        rank = kept.sum(-1, dtype=jnp.int32)
        near = (sigma > rtol / FLOOR_WINDOW * top) & (sigma <= rtol * FLOOR_WINDOW * top)
        unresolved = kept & (sigma < accuracy.resolution * top)
        floored = (near | unresolved).any(-1) | (rank == 0)
        if not accuracy.trusts_zero:
            floored |= (~kept & (sigma > 0)).any(-1)
        sigma_min = jnp.where(kept, sigma, top).min(-1)
        return _spectrum(top[..., 0], sigma_min, rank, floored)


@dataclass(frozen=True)
class Ridge:
    """Adds `relative` times the mean eigenvalue (trace / d) to every singular value, so that none is zero.

    `floored` is set when the ridge is larger than the smallest singular value: the ridge then decides, not the data.
    The rank counts the singular values above the ridge.
    """

    relative: float

    def __post_init__(self):
        if not 0 < self.relative < float("inf"):
            raise InputError(f"relative: needs a positive finite number, got {self.relative}; 1e-3 is usual")

    def measure(self, sigma: jax.Array, accuracy: _Accuracy) -> Spectrum:
        """Judges all d singular values of the Hessian in descending order, shape (..., d)."""
        del accuracy  # the ridge is far above rounding
        ridge = self.relative * sigma.mean(-1)
        rank = (sigma > ridge[..., None]).sum(-1, dtype=jnp.int32)
        return _spectrum(sigma[..., 0] + ridge, sigma[..., -1] + ridge, rank, sigma[..., -1] < ridge)


@dataclass(frozen=True)
class ReleasedCode:
    """The rule of the paper's released code, for comparison with published numbers only.

    It adds 1e-6 I and takes the smallest eigenvalue above 1e-6. On a rank-deficient matrix rounding lifts a null
    eigenvalue just above the floor, and kappa becomes sigma_max * 1e6. It is not scale-invariant. `floored` is set when
    sigma_min is below 2e-6. Meant for float64: in float32 the floor itself drowns in rounding.
    """

    floor = 1e-6

    def measure_matrix(self, s: jax.Array) -> Spectrum:
        """Judges a symmetric matrix, shape (..., d, d); it is shifted before it is decomposed: the rounding matters."""
        shift = jnp.broadcast_to(self.floor * jnp.eye(s.shape[-1], dtype=s.dtype), s.shape)
        eigenvalues = eigh(s + shift)[0]
        kept = eigenvalues > self.floor
        top = eigenvalues[..., -1]
        sigma_min = jnp.where(kept, eigenvalues, jnp.inf).min(-1)
        return _spectrum(top, sigma_min, kept.sum(-1, dtype=jnp.int32), sigma_min < 2 * self.floor)


Policy = PseudoInverse | Ridge | ReleasedCode


class Route(enum.Enum):
    """How `feature_condition_number` gets the singular values of f."""

    SVD = enum.auto()
    """Singular values of f itself: exact, and differentiable everywhere."""
    QR = enum.auto()
    """QR of the longer side, then the small SVD: as exact, fewer operations for very tall f; not differentiable."""
    GRAM = enum.auto()
    """Eigenvalues of the Gram matrix of the smaller side: the fastest, and it resolves only half the digits."""


def condition_number(s: jax.Array, policy: Policy = PseudoInverse()) -> Spectrum:
    """Condition number of a matrix under a named policy.

    Args:
      s: shape (..., m, n), float32 or float64; leading axes are a batch. `Ridge` and `ReleasedCode` are meant for
        symmetric positive semi-definite matrices.
      policy: `PseudoInverse`, `Ridge` or `ReleasedCode`.

    Returns:
      A `Spectrum` whose fields have the batch shape.

    Raises:
      InputError: if s has fewer than two axes or, when it is concrete, is not finite or is zero everywhere.

    >>> import jax.numpy as jnp
    >>> spectrum = condition_number(jnp.diag(jnp.array([4.0, 2.0, 0.0])))
    >>> float(spectrum.kappa), int(spectrum.rank)
    (2.0, 2)
    """
    s = _check_matrix(s, "s")
    if isinstance(policy, ReleasedCode):
        return policy.measure_matrix(s)
    return policy.measure(singular_values(s), _matrix_accuracy(s))


def feature_condition_number(
    f: jax.Array,
    policy: Policy = PseudoInverse(),
    *,
    route: Route = Route.SVD,
    amplification: float | jax.Array = 1.0,
) -> Spectrum:
    """Condition number of f^T f, the Hessian of an l2 probe on features f, without squaring f.

    Args:
      f: features, shape (..., N, d), float32 or float64; leading axes are a batch.
      policy: as in `condition_number`; `rtol` is relative to sigma_max of f^T f.
      route: how the singular values are found; ignored by `ReleasedCode`, whose rule is about the formed matrix.
      amplification: how much more than a unit in its last place f is off, a scalar or shape (...): for a product x theta it
        is `product_amplification`. Zeros and the flag are judged by it, except on the Gram route.

    Returns:
      The `Spectrum` of f^T f. Within 2 % in float32 up to kappa = 1e9; `floored` beyond.

    Raises:
      InputError: if f has fewer than two axes or, when it is concrete, is not finite or is zero everywhere.
    """
    f = _check_matrix(f, "f")
    if isinstance(policy, ReleasedCode):
        return policy.measure_matrix(product(f.mT, f))
    if route is Route.GRAM:
        gram = smaller_gram(f)
        sigma = singular_values(gram)
        accuracy = _matrix_accuracy(gram)
    else:
        sigma = _feature_singular_values(f, route) ** 2
        accuracy = _feature_accuracy(f, amplification)
    if isinstance(policy, Ridge):  # the mean eigenvalue counts the zeros of a wide f too
        missing = f.shape[-1] - sigma.shape[-1]
        sigma = jnp.pad(sigma, [(0, 0)] * (sigma.ndim - 1) + [(0, missing)])
    return policy.measure(sigma, accuracy)


def product_amplification(x: jax.Array, theta: jax.Array, f: jax.Array) -> jax.Array:
    """How much larger the rounding in f = x theta is than f's own: ||x||_F ||theta||_F / (sqrt(d) ||f||_F), at least 1; (...).

    A whitening theta makes large numbers small: the directions that x lacks then come out of the product not as zero but as
    rounding errors of the large ones.
    """
    norms = [jnp.linalg.norm(part, axis=(-2, -1)) for part in (x, theta, f)]
    product = norms[0] * norms[1] / theta.shape[-2] ** 0.5
    return jnp.maximum(product / jnp.where(norms[2] > 0, norms[2], 1), 1)


def log_condition_number(s: jax.Array, policy: Policy = PseudoInverse()) -> jax.Array:
    """The logarithm of kappa(s), shape (...), with finite gradients also where singular values repeat or are zero.

    The derivative is u_1 v_1^T / sigma_max - u_k v_k^T / sigma_min; among equal singular values it is that of one of
    them, or a mean of several: a subgradient. Values that the policy counts as zero have no influence on it.
    """
    return _log_ratio(condition_number(s, policy))


def log_feature_condition_number(f: jax.Array, policy: Policy = PseudoInverse()) -> jax.Array:
    """The logarithm of kappa(f^T f), differentiable as `log_condition_number` is, without squaring f; shape (...)."""
    return _log_ratio(feature_condition_number(f, policy))


def smaller_gram(f: jax.Array) -> jax.Array:
    """Whichever of f f^T and f^T f is smaller: both have the non-zero spectrum of f^T f. Shape (..., m, m)."""
    rows, features = f.shape[-2:]
    return product(f, f.mT) if rows < features else product(f.mT, f)


class Eigen(NamedTuple):
    """Eigenpairs of a positive semi-definite matrix, largest first.

    Attributes:
      sigma: eigenvalues, shape (..., r), descending; rounding below zero is clipped to 0.
      vectors: shape (..., d, r), the eigenvectors in columns.
    """

    sigma: jax.Array
    vectors: jax.Array


def eigenpairs(h: jax.Array) -> Eigen:
    """All eigenpairs of a symmetric positive semi-definite matrix, shape (..., d, d), largest first."""
    sigma, vectors = eigh(h)
    return Eigen(jnp.maximum(sigma[..., ::-1], 0), vectors[..., ::-1])


def feature_eigenpairs(f: jax.Array) -> Eigen:
    """The min(N, d) leading eigenpairs of f^T f for features f of shape (..., N, d), from the smaller Gram matrix.

    For a minibatch of B < d rows this is a B x B problem: with f f^T = U diag(sigma) U^T, V = f^T U / sqrt(sigma).
    Columns that belong to a zero eigenvalue are zero. The vectors have shape (..., d, min(N, d)).
    """
    eigen = eigenpairs(smaller_gram(f))
    if f.shape[-2] >= f.shape[-1]:
        return eigen
    root = jnp.sqrt(eigen.sigma)
    positive = eigen.sigma > rounding_tolerance(f.shape[-2], f.dtype) * eigen.sigma[..., :1]
    scale = jnp.where(positive, 1 / jnp.where(positive, root, 1), 0)
    return Eigen(eigen.sigma, product(f.mT, eigen.vectors) * scale[..., None, :])


class TopPair(NamedTuple):
    """The largest eigenvalue, its eigenvector, and how far the two are from satisfying h v = sigma v.

    Attributes:
      sigma: scalar.
      vector: shape (d,), of unit length.
      residual: ||h v - sigma v|| / sigma; sigma itself is right to about the residual squared over the relative gap.
    """

    sigma: jax.Array
    vector: jax.Array
    residual: jax.Array


def largest_eigenpair(h: jax.Array, *, num_matvecs: int = 32) -> TopPair:
    """The largest eigenpair alone, by Lanczos with full reorthogonalisation: R_well needs no more. Not differentiable.

    Args:
      h: symmetric positive semi-definite, shape (d, d). Use `vmap` for a batch.
      num_matvecs: length of the Krylov space, cut to d. 32 reach rounding level for uncentred covariances, whose
        largest eigenvalue stands apart; the residual says whether they did.
    """
    size = h.shape[-1]
    length = min(num_matvecs, size)
    largest = jnp.abs(h).max()
    scale = jnp.where(largest > 0, largest, 1)  # so that no square below over- or underflows
    h = h / scale
    with jax.default_matmul_precision("highest"):
        # A fixed start that no symmetry of the data is orthogonal to; h @ start leans towards the top already.
        start = h @ jnp.cos(jnp.arange(size, dtype=h.dtype) + 1.0)
        start = jnp.where(jnp.linalg.norm(start) > 0, start, jnp.ones_like(start))
        krylov = decomp.tridiag_sym(length, reortho="full")(lambda v: h @ v, start)
        # Once the Krylov space is exhausted the recursion normalises rounding, or divides by zero. Rayleigh-Ritz on an
        # orthonormal basis of whatever is finite does not mind: a larger subspace only makes the top pair better.
        found = jnp.nan_to_num(jnp.asarray(krylov.Q_tall), posinf=0, neginf=0)
        basis = qr(found.T)[0]
        vector = basis @ eigenpairs(basis.T @ (h @ basis)).vectors[:, 0]
        image = h @ vector
        sigma = vector @ image
    safe = jnp.where(sigma > 0, sigma, 1)
    return TopPair(sigma * scale, vector, jnp.linalg.norm(image - sigma * vector) / safe)


def rounding_tolerance(size: int, dtype) -> float:
    """What rounding makes of a zero eigenvalue of a formed (size, size) matrix, relative to the largest: size * eps."""
    return size * float(jnp.finfo(dtype).eps)


def above_rounding(sigma: jax.Array, size: int, amplification: float | jax.Array = 1.0) -> jax.Array:
    """Which descending singular values of features, shape (r,), stand above rounding: 2 sqrt(size) eps of the largest.

    Args:
      sigma: the singular values.
      size: the smaller side of the features.
      amplification: `product_amplification` of features that are a product.
    """
    eps = float(jnp.finfo(sigma.dtype).eps)
    # The largest one always counts, even where a map shows hardly anything but rounding.
    return sigma > jnp.minimum(_feature_rounding(size, eps * amplification), 1 - eps) * sigma[0]


def _feature_rounding(size: int, eps: float | jax.Array) -> float | jax.Array:
    """Relative size of what rounding makes of a zero singular value; measured, not derived, on prescribed spectra."""
    return 2 * size**0.5 * eps


def numerical_rank(sigma: jax.Array) -> jax.Array:
    """How many descending eigenvalues of a formed matrix, shape (..., d), stand above rounding; int32, shape (...)."""
    return (sigma > rounding_tolerance(sigma.shape[-1], sigma.dtype) * sigma[..., :1]).sum(-1, dtype=jnp.int32)


def _spectrum(sigma_max, sigma_min, rank, floored) -> Spectrum:
    has_range = sigma_min > 0
    kappa = jnp.where(has_range, sigma_max / jnp.where(has_range, sigma_min, 1), jnp.inf)
    return Spectrum(kappa, sigma_max, sigma_min, rank, floored)


def _log_ratio(spectrum: Spectrum) -> jax.Array:
    # Two logarithms, not that of the ratio: neither can overflow, and a zero matrix gets gradient zero, not NaN.
    has_range = spectrum.sigma_min > 0
    sigma_max = jnp.where(has_range, spectrum.sigma_max, 1)
    sigma_min = jnp.where(has_range, spectrum.sigma_min, 1)
    return jnp.where(has_range, jnp.log(sigma_max) - jnp.log(sigma_min), jnp.inf)


def _feature_singular_values(f: jax.Array, route: Route) -> jax.Array:
    if route is Route.QR:
        f = qr(mix_columns(f.mT if f.shape[-2] < f.shape[-1] else f))[1]
    return singular_values(f)


def _matrix_accuracy(s: jax.Array) -> _Accuracy:
    eps = float(jnp.finfo(s.dtype).eps)
    return _Accuracy(rounding_tolerance(max(s.shape[-2:]), s.dtype), RESOLUTION_IN_EPS * eps, s.dtype == jnp.float64)


def _feature_accuracy(f: jax.Array, amplification: float | jax.Array) -> _Accuracy:
    """Accuracy of the SQUARED singular values of f."""
    eps = float(jnp.finfo(f.dtype).eps) * (
        jnp.expand_dims(amplification, -1) if np.ndim(amplification) else amplification
    )
    zero = _feature_rounding(min(f.shape[-2:]), eps) ** 2
    return _Accuracy(zero, (RESOLUTION_IN_EPS * eps) ** 2, f.dtype == jnp.float64)


def _check_matrix(s, name: str) -> jax.Array:
    if np.ndim(s) < 2:
        raise InputError(f"{name}: needs shape (..., rows, columns), got {np.shape(s)}; give a matrix")
    s = jnp.asarray(s)
    if s.dtype not in (jnp.float32, jnp.float64):
        raise InputError(f"{name}: needs float32 or float64, got {s.dtype}; convert it with .astype(float)")
    if isinstance(s, Tracer):
        return s
    values = np.asarray(s)  # NumPy, since inside somebody's jit even a concrete array's sum is traced
    if not np.isfinite(values).all():
        raise InputError(f"{name}: has NaN or infinite entries; remove or impute them first")
    if not values.any((-2, -1)).all():
        raise InputError(f"{name}: is zero everywhere, so it has no condition number; check how it was made")
    return s
