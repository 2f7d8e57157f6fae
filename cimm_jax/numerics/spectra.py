"""Condition numbers under a named policy.

`kappa(S) = ||S||_2 ||S^+||_2 = sigma_max / sigma_min`, with sigma_min the smallest NON-ZERO singular value (Eq. 1 of
Zheng et al., 2025). Which values count as zero is a choice, and on real data it often decides the number. So every
function takes a policy, and every `Spectrum` says which rank the policy saw and whether a floor decided the answer.
Numbers under different policies are not comparable.

Squaring loses digits: kappa(F^T F) = kappa(F)^2. `feature_condition_number` therefore works on the features themselves,
and resolves kappa(F^T F) to about 1e9 in float32 where `condition_number(f.T @ f)` stops near 1e5.

Kappa has no scale: every matrix is measured over a power of two (`scaling`), and only the singular values that are reported
are multiplied by it again.
"""

import enum
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from matfree import decomp

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import eigh, mix_columns, qr, singular_values, symmetric_singular_values
from cimm_jax.numerics.inputs import as_matrix, is_concrete
from cimm_jax.numerics.matrix_free import Extremes, UnresolvedError, feature_extremes
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised, scaled
from cimm_jax.numerics.structure import largest_possible_rank
from cimm_jax.numerics.tall_qr import few_rows

__all__ = [
    "FLOOR_WINDOW",
    "LARGEST_DENSE",
    "RESOLUTION_IN_EPS",
    "Eigen",
    "Policy",
    "PseudoInverse",
    "ReleasedCode",
    "Ridge",
    "Route",
    "Solver",
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
      kappa: sigma_max / sigma_min; infinity where no singular value counts, as of a zero matrix; NaN of one with NaN.
      sigma_max: the largest singular value (after the policy's ridge, if it has one); infinite if it is too large a number.
      sigma_min: the smallest singular value that the policy counts as non-zero; 0 if none does, or it is too small a number.
      rank: int32, how many singular values the policy counts as non-zero.
      floored: bool, True if a floor or the arithmetic, not the data, decided sigma_min. See each policy. Also True if nothing
        counts or something is NaN; if sigma_max or sigma_min leaves the range of numbers, which does kappa no harm; and if the
        whole matrix is so near to that range's lower end that entries of it may have been lost.
    """

    kappa: jax.Array
    sigma_max: jax.Array
    sigma_min: jax.Array
    rank: jax.Array
    floored: jax.Array


class _Accuracy(NamedTuple):
    """How well the values at hand were computed, all relative to the largest.

    Attributes:
      zero: a value at most this is a rounded zero; shape (..., 1) if an array.
      resolution: a value below this may be more than 1 % off; the same.
      trusts_zero: False in float32, where a value that float64 would resolve also looks like zero.
      possible: `largest_possible_rank`, shape (..., 1): values beyond it are zero, whatever rounding makes of them.
    """

    zero: float | jax.Array
    resolution: float | jax.Array
    trusts_zero: bool
    possible: jax.Array


def _make_hashable(policy: object, field: str) -> None:
    """Whatever number was given, as an array's are not: compiled programs have policies as constants."""
    object.__setattr__(policy, field, float(getattr(policy, field)))


@dataclass(frozen=True)
class PseudoInverse:
    """Eq. 1: singular values at most `rtol * sigma_max` are zero, the rest count.

    `floored` is set when moving the tolerance tenfold either way would change the rank, when sigma_min is too small for
    the arithmetic to resolve within 2 %, and, below float64, whenever a value was counted as zero (float64 might have
    resolved it, and an exact 0 is what LAPACK sometimes makes of one). Values that rows or columns of zeros leave no rank for
    are zero, and known to be. An `rtol` below the rounding level leaves the zeros to the arithmetic, as float32 does.

    Attributes:
      rtol: relative to sigma_max of the measured matrix, in [0, 1). None: what rounding makes of a zero, which is
        max(m, n) * eps for a matrix and (2 sqrt(d) eps)^2 for features, whose Hessian is never formed.
    """

    rtol: float | None = None

    def __post_init__(self):
        if self.rtol is not None and not 0 <= self.rtol < 1:
            raise InputError(f"rtol: needs a number in [0, 1), got {self.rtol}; use None for the rounding level")
        if self.rtol is not None:
            _make_hashable(self, "rtol")

    def measure(self, sigma: jax.Array, accuracy: _Accuracy) -> Spectrum:
        """Judges singular values in descending order, shape (..., m)."""
        rtol = accuracy.zero if self.rtol is None else self.rtol
        top = sigma[..., :1]
        possible = jax.lax.broadcasted_iota(jnp.int32, sigma.shape, sigma.ndim - 1) < accuracy.possible
        kept = possible & (sigma > rtol * top)
        rank = kept.sum(-1, keepdims=True, dtype=jnp.int32)
        near = possible & (sigma > rtol / FLOOR_WINDOW * top) & (sigma <= rtol * FLOOR_WINDOW * top)
        unresolved = kept & (sigma < accuracy.resolution * top)
        doubted = (not accuracy.trusts_zero) | (rtol < accuracy.zero)
        misjudged = (doubted & (rank < accuracy.possible)) | (rank == 0)
        floored = (near | unresolved).any(-1) | misjudged[..., 0]
        sigma_min = jnp.where(kept, sigma, top).min(-1)
        return _spectrum(top[..., 0], sigma_min, rank[..., 0], floored)


@dataclass(frozen=True)
class Ridge:
    """Adds `relative` times the mean eigenvalue (trace / d) to every singular value, so that none is zero.

    `floored` is set when the ridge is larger than the smallest singular value: the ridge then decides, not the data; and
    when the two together are too small for the arithmetic to resolve. The rank counts the singular values above the ridge.
    """

    relative: float

    def __post_init__(self):
        if not 0 < self.relative < float("inf"):
            raise InputError(f"relative: needs a positive finite number, got {self.relative}; 1e-3 is usual")
        _make_hashable(self, "relative")

    def measure(self, sigma: jax.Array, accuracy: _Accuracy) -> Spectrum:
        """Judges all d singular values of the Hessian in descending order, shape (..., d)."""
        ridge = self.relative * sigma.mean(-1, keepdims=True)
        rank = (sigma > ridge).sum(-1, dtype=jnp.int32)
        ridged = sigma + ridge
        # Comparisons that NaN fails.
        decided = (sigma >= ridge) & (ridged >= accuracy.resolution * sigma[..., :1]) & (sigma[..., :1] > 0)
        return _spectrum(ridged[..., 0], ridged[..., -1], rank, ~decided[..., -1])


@dataclass(frozen=True)
class ReleasedCode:
    """The rule of the paper's released code, for comparison with published numbers only.

    It adds 1e-6 I and takes the smallest eigenvalue above 1e-6. On a rank-deficient matrix rounding lifts a null
    eigenvalue just above the floor, and kappa becomes sigma_max * 1e6. It is not scale-invariant. `floored` is set when
    sigma_min is below 2e-6, when the arithmetic does not resolve it, when no eigenvalue is above the floor, and when the
    largest is no number. Meant for float64: in float32 the floor itself drowns in rounding.
    """

    floor = 1e-6

    @partial(jax.jit, static_argnums=0)
    def measure_matrix(self, s: jax.Array) -> Spectrum:
        """Judges a symmetric matrix, shape (..., d, d); it is shifted before it is decomposed: the rounding matters."""
        shift = jnp.broadcast_to(self.floor * jnp.eye(s.shape[-1], dtype=s.dtype), s.shape)
        eigenvalues = eigh(s + shift)[0]
        kept = eigenvalues > self.floor
        rank = kept.sum(-1, dtype=jnp.int32)
        top = eigenvalues[..., -1]
        lowest = jnp.where(kept, eigenvalues, jnp.inf).min(-1)
        sigma_min = jnp.where(rank > 0, lowest, 0 * top)  # NaN stays NaN
        resolution = RESOLUTION_IN_EPS * float(jnp.finfo(s.dtype).eps)
        decided = (lowest >= 2 * self.floor) & (lowest >= resolution * top) & (rank > 0) & jnp.isfinite(top)
        return _spectrum(top, sigma_min, rank, ~decided)


Policy = PseudoInverse | Ridge | ReleasedCode


class Route(enum.Enum):
    """How `feature_condition_number` gets the singular values of f."""

    SVD = enum.auto()
    """Singular values of f itself: exact, and differentiable everywhere."""
    QR = enum.auto()
    """QR of the longer side, then the small SVD: as exact, fewer operations for very tall f; not differentiable."""
    GRAM = enum.auto()
    """Eigenvalues of the Gram matrix of the smaller side: the fastest, and it resolves only half the digits."""


Solver = Literal["auto", "dense", "matrix_free"]
"""All singular values ("dense"), or the extreme ones alone ("matrix_free", `matrix_free.feature_extremes`). "auto": those alone
where both sides are longer than `LARGEST_DENSE` and nothing forbids it: one matrix, not traced, and `PseudoInverse`."""

LARGEST_DENSE = 8192
"""Rows or columns of a matrix that is decomposed without being asked for."""


def condition_number(
    s: jax.Array, policy: Policy = PseudoInverse(), *, symmetric: bool = False, solver: Solver = "auto"
) -> Spectrum:
    """Condition number of a matrix under a named policy.

    Args:
      s: shape (..., m, n), as `inputs.as_array` takes it; leading axes are a batch. `Ridge` and `ReleasedCode` are meant for
        symmetric positive semi-definite matrices, and `ReleasedCode` for no others than square ones.
      policy: `PseudoInverse`, `Ridge` or `ReleasedCode`.
      symmetric: s is known to be, as a Hessian is: the answer is the same, in half the time. Of what is not, the
        symmetric part is judged.
      solver: see `Solver`. The extremes alone take a matrix of full rank, rows and columns of zeros aside.

    Returns:
      A `Spectrum` whose fields have the batch shape, of s's dtype, or float32 if that is shorter.

    Raises:
      InputError: if s is no matrix of real numbers or has no entries; or when it is concrete and not finite, zero everywhere,
        or nowhere a normal number; if "matrix_free" is asked for where it cannot be had, or does not find the smallest singular
        value that the policy counts (`matrix_free.UnresolvedError`).

    >>> import jax.numpy as jnp
    >>> spectrum = condition_number(jnp.diag(jnp.array([4.0, 2.0, 0.0])))
    >>> float(spectrum.kappa), int(spectrum.rank)
    (2.0, 2)
    """
    return _with_scale(_matrix_spectrum(s, policy, solver, symmetric=symmetric))


def feature_condition_number(
    f: jax.Array,
    policy: Policy = PseudoInverse(),
    *,
    route: Route = Route.SVD,
    amplification: float | jax.Array = 1.0,
    solver: Solver = "auto",
) -> Spectrum:
    """Condition number of f^T f, the Hessian of an l2 probe on features f, without squaring f.

    Args:
      f: features, shape (..., N, d), as `inputs.as_array` takes them; leading axes are a batch. A matrix that is spread over
        devices by rows, concrete, is not copied to one: all routes but `ReleasedCode`'s go through `tall_qr.few_rows` first.
      policy: as in `condition_number`; `rtol` is relative to sigma_max of f^T f.
      route: how the singular values are found; ignored by `ReleasedCode`, whose rule is about the formed matrix.
      amplification: how much more than a unit in its last place f is off, a scalar or shape (...): for a product x theta it
        is `product_amplification`. Zeros and the flag are judged by it, except on the Gram route.
      solver: as in `condition_number`; with the extremes alone there is no route.

    Returns:
      The `Spectrum` of f^T f. Within 2 % in float32 up to kappa = 1e9; `floored` beyond.

    Raises:
      InputError: as `condition_number`.
    """
    return _with_scale(_feature_spectrum(f, policy, route, amplification, solver))


@jax.jit
def product_amplification(x: jax.Array, theta: jax.Array, f: jax.Array) -> jax.Array:
    """How much larger the rounding in f = x theta is than f's own: ||x||_F ||theta||_F / (sqrt(d) ||f||_F), at least 1; (...).

    A whitening theta makes large numbers small: the directions that x lacks then come out of the product not as zero but as
    rounding errors of the large ones.
    """
    units = [normalised(part) for part in (x, theta, f)]
    norms = [jnp.linalg.norm(unit.values, axis=(-2, -1)) for unit in units]
    product = norms[0] * norms[1] / theta.shape[-2] ** 0.5
    larger = product / jnp.where(norms[2] > 0, norms[2], 1)
    return jnp.maximum(scaled(larger, units[0].exponent + units[1].exponent - units[2].exponent), 1)


def log_condition_number(s: jax.Array, policy: Policy = PseudoInverse(), *, symmetric: bool = False) -> jax.Array:
    """The logarithm of kappa(s), shape (...), with finite gradients also where singular values repeat or are zero.

    The derivative is u_1 v_1^T / sigma_max - u_k v_k^T / sigma_min; among equal singular values it is that of one of
    them, or a mean of several: a subgradient. Values that the policy counts as zero have no influence on it. Arguments and
    errors are those of `condition_number`; infinite where kappa is, NaN where s is.
    """
    return _log_ratio(_matrix_spectrum(s, policy, symmetric=symmetric).spectrum)


def log_feature_condition_number(f: jax.Array, policy: Policy = PseudoInverse()) -> jax.Array:
    """The logarithm of kappa(f^T f), differentiable as `log_condition_number` is, without squaring f; shape (...)."""
    return _log_ratio(_feature_spectrum(f, policy).spectrum)


def smaller_gram(f: jax.Array) -> jax.Array:
    """Whichever of f f^T and f^T f is smaller: both have the non-zero spectrum of f^T f. Shape (..., m, m).

    It is a square: entries of f beyond the square root of the largest number overflow.
    """
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
    units = normalised(f)
    eigen = eigenpairs(smaller_gram(units.values))
    sigma = scaled(eigen.sigma, 2 * units.exponent[..., None])
    if f.shape[-2] >= f.shape[-1]:
        return Eigen(sigma, eigen.vectors)
    root = jnp.sqrt(eigen.sigma)
    positive = eigen.sigma > rounding_tolerance(f.shape[-2], f.dtype) * eigen.sigma[..., :1]
    weights = jnp.where(positive, 1 / jnp.where(positive, root, 1), 0)
    return Eigen(sigma, product(units.values.mT, eigen.vectors) * weights[..., None, :])


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


class _Measured(NamedTuple):
    """A spectrum in units of its own: of matrices that were divided by 2^exponent and then raised to a power, 1 or 2."""

    spectrum: Spectrum
    exponent: jax.Array | None  # None where the policy has units of its own
    power: int = 1


def _matrix_spectrum(s: jax.Array, policy: Policy, solver: Solver = "dense", *, symmetric: bool) -> _Measured:
    s = _check_matrix(s, "s")
    if s.shape[-1] != s.shape[-2] and (symmetric or isinstance(policy, ReleasedCode)):
        wanted = "symmetric" if symmetric else "ReleasedCode"
        raise InputError(f"s: {wanted} needs shape (..., d, d), got {s.shape}; give a symmetric matrix")
    if isinstance(policy, ReleasedCode):
        return _Measured(policy.measure_matrix(s), None)
    if _extremes_alone(s, policy, solver, "s"):
        units = normalised(s)
        extremes = feature_extremes(units.values, "s")
        return _Measured(_of_full_rank(extremes, 0.5, policy, _matrix_accuracy(s, s), s, "s"), units.exponent)
    return _Measured(*_all_of_matrix(s, policy, symmetric))


@partial(jax.jit, static_argnums=(1, 2))
def _all_of_matrix(s: jax.Array, policy: PseudoInverse | Ridge, symmetric: bool) -> tuple[Spectrum, jax.Array]:
    """By all singular values of s, and its exponent."""
    units = normalised(s)
    sigma = (symmetric_singular_values if symmetric else singular_values)(units.values)
    return policy.measure(sigma, _matrix_accuracy(s, s)), units.exponent


def _feature_spectrum(
    f: jax.Array,
    policy: Policy,
    route: Route = Route.SVD,
    amplification: float | jax.Array = 1.0,
    solver: Solver = "dense",
) -> _Measured:
    f = _check_matrix(few_rows(f), "f")
    if isinstance(policy, ReleasedCode):
        return _Measured(policy.measure_matrix(product(f.mT, f)), None)
    if _extremes_alone(f, policy, solver, "f"):
        units = normalised(f)
        extremes = feature_extremes(units.values, "f")
        accuracy = _feature_accuracy(f, amplification)
        return _Measured(_of_full_rank(extremes, 1.0, policy, accuracy, f, "f"), units.exponent, power=2)
    return _Measured(*_all_of_features(f, policy, route, amplification), power=2)


@partial(jax.jit, static_argnums=(1, 2))
def _all_of_features(
    f: jax.Array, policy: PseudoInverse | Ridge, route: Route, amplification: float | jax.Array
) -> tuple[Spectrum, jax.Array]:
    """By all singular values of f, in units of f^T f, and f's exponent."""
    units = normalised(f)
    if route is Route.GRAM:
        gram = smaller_gram(units.values)
        sigma = singular_values(gram)
        accuracy = _matrix_accuracy(gram, f)
    else:
        sigma = _feature_singular_values(units.values, route) ** 2
        accuracy = _feature_accuracy(f, amplification)
    if isinstance(policy, Ridge):  # the mean eigenvalue counts the zeros of a wide f too
        missing = f.shape[-1] - sigma.shape[-1]
        sigma = jnp.pad(sigma, [(0, 0)] * (sigma.ndim - 1) + [(0, missing)])
    return policy.measure(sigma, accuracy), units.exponent


def _extremes_alone(s: jax.Array, policy: Policy, solver: Solver, name: str) -> bool:
    """Whether the extreme singular values are found without the others; raises `InputError` where that cannot be."""
    if solver not in get_args(Solver):
        raise InputError(f"solver: needs one of {', '.join(get_args(Solver))}, got {solver}")
    possible = isinstance(policy, PseudoInverse) and s.ndim == 2 and is_concrete(s)
    if solver == "matrix_free" and not possible:
        raise InputError(
            f'solver: "matrix_free" is for one matrix outside of jit under PseudoInverse; {name} is of shape {s.shape}, under '
            f'{type(policy).__name__}{"" if is_concrete(s) else ", and traced"}; use "dense"'
        )
    return solver == "matrix_free" or (solver == "auto" and possible and min(s.shape) > LARGEST_DENSE)


def _of_full_rank(
    extremes: Extremes, power: float, policy: PseudoInverse | Ridge, accuracy: _Accuracy, s: jax.Array, name: str
) -> Spectrum:
    """What the policy, `PseudoInverse`, says of s if it counts all; eigenvalues of s^T s are raised to a power first."""
    ends = np.array([extremes.largest.value, extremes.smallest.value]) ** power
    both = jnp.full((1,), 2, accuracy.possible.dtype)
    found = policy.measure(jnp.asarray(ends, s.dtype), accuracy._replace(possible=both))
    if int(found.rank) < 2:
        raise UnresolvedError(
            f"{name}: its smallest singular value is {ends[1] / ends[0]:.3g} of the largest, which the policy counts as zero; "
            'the smallest one that it counts is only found with solver="dense"'
        )
    return found._replace(rank=jnp.asarray(extremes.rank, found.rank.dtype))


def _with_scale(measured: _Measured) -> Spectrum:
    """The spectrum with its singular values in ordinary units; where they leave the range of numbers, it says so."""
    if measured.exponent is None:
        return measured.spectrum
    return _scaled_back(measured.spectrum, measured.exponent, measured.power)


@partial(jax.jit, static_argnums=2)
def _scaled_back(spectrum: Spectrum, exponent: jax.Array, power: int) -> Spectrum:
    sigma_max, sigma_min = (scaled(sigma, power * exponent) for sigma in (spectrum.sigma_max, spectrum.sigma_min))
    beyond = jnp.isinf(sigma_max) | ((sigma_min == 0) & (spectrum.sigma_min > 0))
    # Entries below the smallest normal number count as zero: less than rounding, unless the largest is not far above it.
    info = jnp.finfo(sigma_max.dtype)
    lost = exponent < info.minexp + info.nmant
    return Spectrum(spectrum.kappa, sigma_max, sigma_min, spectrum.rank, spectrum.floored | beyond | lost)


def _spectrum(sigma_max, sigma_min, rank, floored) -> Spectrum:
    has_range = sigma_min > 0
    kappa = jnp.where(has_range, sigma_max / jnp.where(has_range, sigma_min, 1), jnp.inf)
    return Spectrum(jnp.where(jnp.isnan(sigma_min), jnp.nan, kappa), sigma_max, sigma_min, rank, floored)


@jax.jit
def _log_ratio(spectrum: Spectrum) -> jax.Array:
    # Two logarithms, not that of the ratio: neither can overflow, and a zero matrix gets gradient zero, not NaN.
    has_range = spectrum.sigma_min > 0
    sigma_max = jnp.where(has_range, spectrum.sigma_max, 1)
    sigma_min = jnp.where(has_range, spectrum.sigma_min, 1)
    unknown = jnp.where(jnp.isnan(spectrum.sigma_min), jnp.nan, jnp.inf)
    return jnp.where(has_range, jnp.log(sigma_max) - jnp.log(sigma_min), unknown)


def _feature_singular_values(f: jax.Array, route: Route) -> jax.Array:
    if route is Route.QR:
        f = qr(mix_columns(f.mT if f.shape[-2] < f.shape[-1] else f))[1]
    return singular_values(f)


def _matrix_accuracy(s: jax.Array, given: jax.Array) -> _Accuracy:
    """Accuracy of the singular values of s, which was made from the given matrix if it is not that itself."""
    eps = float(jnp.finfo(s.dtype).eps)
    zero = rounding_tolerance(max(s.shape[-2:]), s.dtype)
    return _Accuracy(zero, RESOLUTION_IN_EPS * eps, s.dtype == jnp.float64, largest_possible_rank(given)[..., None])


def _feature_accuracy(f: jax.Array, amplification: float | jax.Array) -> _Accuracy:
    """Accuracy of the SQUARED singular values of f."""
    eps = float(jnp.finfo(f.dtype).eps) * (
        jnp.expand_dims(amplification, -1) if np.ndim(amplification) else amplification
    )
    zero = _feature_rounding(min(f.shape[-2:]), eps) ** 2
    return _Accuracy(zero, (RESOLUTION_IN_EPS * eps) ** 2, f.dtype == jnp.float64, largest_possible_rank(f)[..., None])


def _check_matrix(s, name: str) -> jax.Array:
    """`as_matrix` of matrices that have a condition number, as far as is known before they are decomposed."""
    s = as_matrix(s, name)
    if is_concrete(s):
        largest = np.abs(np.asarray(s)).max((-2, -1))
        if not largest.all():
            raise InputError(f"{name}: is zero everywhere, so it has no condition number; check how it was made")
        smallest = float(jnp.finfo(s.dtype).smallest_normal)
        if (largest < smallest).any():
            raise InputError(
                f"{name}: is below {smallest:.1e} everywhere, which processors count as zero; multiply it by a power of two"
            )
    return s
