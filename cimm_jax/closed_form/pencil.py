"""The pencil (K_P, K_H): both covariances made diagonal at once, and the limit that follows for every linear extractor.

With V^T K_P V = I and V^T K_H V = diag(mu), mu_min K_P <= K_H <= mu_max K_P in the sense of quadratic forms. Both sides keep
their order when theta^T . theta is put around them, so lambda_max(H_H) <= mu_max lambda_max(H_P) and
lambda_min(H_H) >= mu_min lambda_min(H_P): for every theta,

    kappa(theta^T K_H theta) <= (mu_max / mu_min) kappa(theta^T K_P theta),

and theta = K_P^{-1/2} Q attains it (docs/theory.md has the proof, and what changes when a covariance is singular).

Everything here lives in the range of K_P. A direction that only the primary task has (mu = 0) leaves no trace in the harmful
task and does not count. A direction that only the harmful task has is free: scaling it changes no primary output, and with
it kappa(H_H) has no limit in the sample. It is reported and set aside, since it is a trap on other primary data.

The limit has no scale, so covariances are first brought to one (`scaling`). `diagonalise` takes them as they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.numerics.decompositions import right_svd
from cimm_jax.numerics.inputs import as_matrix, is_concrete
from cimm_jax.numerics.products import product
from cimm_jax.numerics.scaling import normalised, scaled
from cimm_jax.numerics.spectra import Eigen, eigenpairs, rounding_tolerance

__all__ = [
    "Pencil",
    "TaskSpectrum",
    "check_covariance",
    "check_rtol",
    "covariance_pencil",
    "covariance_spectrum",
    "diagonalise",
    "feature_spectrum",
    "pencil_limit",
]


class TaskSpectrum(NamedTuple):
    """The eigenpairs of a task's covariance and how well they are known.

    Attributes:
      sigma: eigenvalues, shape (r,), descending; zero beyond the rank.
      vectors: orthonormal eigenvectors in columns, shape (d, r).
      rank: int32, how many eigenvalues stand above the tolerance.
      tilt: squared sine of the angle by which rounding may have turned the range.
    """

    sigma: jax.Array
    vectors: jax.Array
    rank: jax.Array
    tilt: jax.Array


def covariance_spectrum(k: jax.Array, *, rtol: float | None = None, size: int | None = None) -> TaskSpectrum:
    """From a formed covariance, shape (d, d): resolves eigenvalues down to d eps of the largest.

    Args:
      k: symmetric positive semi-definite.
      rtol: eigenvalues at most this share of the largest are zero; None is what rounding makes of a zero, d eps.
      size: keep only this many leading eigenpairs, at least the rank; None keeps all d.
    """
    noise = rounding_tolerance(k.shape[-1], k.dtype)
    spectrum = _cut(eigenpairs(k), noise if rtol is None else rtol, size)
    return spectrum._replace(tilt=(noise * _spread(spectrum)) ** 2)


def feature_spectrum(x: jax.Array, *, rtol: float | None = None) -> TaskSpectrum:
    """From inputs of shape (N, d), without squaring them: r = min(N, d), and twice the digits of `covariance_spectrum`.

    Args:
      x: inputs.
      rtol: as above, for eigenvalues of x^T x; None is (2 sqrt(min(N, d)) eps)^2, as in `feature_condition_number`.
    """
    values, exponent = normalised(x)
    sigma, vt = right_svd(values)
    noise = (2 * min(x.shape) ** 0.5 * float(jnp.finfo(x.dtype).eps)) ** 2
    spectrum = _cut(Eigen(sigma**2, vt.T), noise if rtol is None else rtol, None)
    return spectrum._replace(sigma=scaled(spectrum.sigma, 2 * exponent), tilt=noise * _spread(spectrum))


def _cut(eigen: Eigen, rtol: float, size: int | None) -> TaskSpectrum:
    sigma, vectors = eigen.sigma[:size], eigen.vectors[:, :size]
    kept = sigma > rtol * sigma[0]
    return TaskSpectrum(jnp.where(kept, sigma, 0), vectors, kept.sum(dtype=jnp.int32), jnp.zeros((), sigma.dtype))


def _spread(spectrum: TaskSpectrum) -> jax.Array:
    """Kappa of the kept eigenvalues."""
    return spectrum.sigma[0] / spectrum.sigma[spectrum.rank - 1]


class Pencil(NamedTuple):
    """Both tasks made diagonal in the primary's range.

    With V = basis diag(whitening) rotation, V^T (K_P + ridge) V = I and V^T K_H V = diag(mu) on the first `rank_primary`
    columns of V; the others are zero but for rounding. One pair: use `vmap` for several.

    Attributes:
      mu: generalised eigenvalues, shape (r,), descending; zero beyond `rank_harmful`.
      rotation: orthogonal, shape (r, r).
      basis: orthonormal eigenvectors of K_P, shape (d, r); columns beyond its rank are zero.
      primary: eigenvalues of K_P, shape (r,); zero beyond its rank.
      whitening: 1 / sqrt(eigenvalue + ridge), shape (r,); zero beyond the rank.
      outside: harmful factor outside the primary's range, ||K_H^{1/2} (I - basis basis^T)||_F^2 / trace K_H.
      rank_primary: int32.
      rank_harmful: int32, rank of the harmful task as seen in the primary's range.
      harmful_only: bool, whether `outside` is more than rounding: the harmful task has directions the primary lacks.
      resolved: bool, whether the arithmetic resolves the smallest counted mu.
    """

    mu: jax.Array
    rotation: jax.Array
    basis: jax.Array
    primary: jax.Array
    whitening: jax.Array
    outside: jax.Array
    rank_primary: jax.Array
    rank_harmful: jax.Array
    harmful_only: jax.Array
    resolved: jax.Array

    @property
    def inside(self) -> jax.Array:
        """Which of the r columns are directions of the primary's range; bool, shape (r,)."""
        return jnp.arange(self.mu.shape[-1], dtype=jnp.int32) < self.rank_primary

    @property
    def directions(self) -> jax.Array:
        """V, shape (d, r)."""
        return product(self.basis * self.whitening[None, :], self.rotation)

    @property
    def kappa_primary(self) -> jax.Array:
        """kappa(K_P)."""
        return self.primary[0] / self.primary[self.rank_primary - 1]

    @property
    def largest_ratio(self) -> jax.Array:
        """mu_max / mu_min over the non-zero mu: the limit of kappa_H / kappa_P in the primary's range; NaN if there is none."""
        ratio = self.mu[0] / _safe(self.mu[self.rank_harmful - 1])
        return jnp.where(self.rank_harmful > 0, ratio, jnp.nan)

    def scaled(self, primary: jax.Array, harmful: jax.Array) -> "Pencil":
        """The pencil of 4^primary K_P and 4^harmful K_H, the exponents whole: of inputs times 2^primary and 2^harmful."""
        return self._replace(
            mu=scaled(self.mu, 2 * (harmful - primary)),
            primary=scaled(self.primary, 2 * primary),
            whitening=scaled(self.whitening, -primary),
        )


def diagonalise(
    primary: TaskSpectrum,
    harmful: TaskSpectrum,
    *,
    ridge: float | jax.Array = 0.0,
    padding: int | None = None,
) -> Pencil:
    """The pencil of two tasks. Pure; under `vmap` the ranks may differ from pair to pair.

    A singular value decomposition of the whitened harmful factor, which is never squared: mu_max / mu_min is resolved
    up to about 1e26 in float64.

    Args:
      primary: r eigenpairs in d dimensions.
      harmful: eigenpairs in the same d dimensions.
      ridge: added to the eigenvalues of K_P, in units of its mean eigenvalue trace / d.
      padding: at most how many of the primary's columns lie beyond its rank; None if any number may. Knowing it saves work.
    """
    features, size = primary.vectors.shape
    counts = jnp.arange(size, dtype=jnp.int32) < primary.rank
    basis = jnp.where(counts[None, :], primary.vectors, 0)
    shifted = primary.sigma + ridge * primary.sigma.sum() / features
    whitening = jnp.where(counts, 1 / jnp.sqrt(_safe(shifted)), 0)
    factor = jnp.sqrt(harmful.sigma)[:, None] * harmful.vectors.T
    seen = product(factor, basis)
    whitened = seen * whitening[None, :]
    scale = _safe(jnp.linalg.norm(whitened))
    # Columns beyond the primary's rank are zero, as are directions that the harmful task lacks. A sentinel larger than every
    # singular value keeps the two apart; it comes out on top and is rolled to the end.
    padding = size if padding is None else padding
    sentinels = jnp.diag(jnp.where(counts, 0, 2 * scale))[size - padding :]
    missing = max(0, size - len(whitened) - padding)  # a complete rotation needs as many rows as columns
    sigma, rotation_t = right_svd(jnp.pad(jnp.concatenate([whitened, sentinels]), ((0, missing), (0, 0))))
    beyond = size - primary.rank
    sigma = jnp.where(counts, jnp.roll(sigma, -beyond), 0)
    rotation = jnp.roll(rotation_t.T, -beyond, axis=1)
    # What rounding in the harmful factor becomes after the largest whitening weight.
    eps = float(jnp.finfo(sigma.dtype).eps)
    top = jnp.sqrt(harmful.sigma[0])
    noise = 2 * features**0.5 * eps * jnp.maximum(top * whitening.max(), sigma[0])
    kept = sigma > noise
    rank = kept.sum(dtype=jnp.int32)
    outside = jnp.sum(jnp.square(factor - product(seen, basis.T))) / harmful.sigma.sum()
    return Pencil(
        mu=jnp.where(kept, sigma**2, 0),
        rotation=rotation,
        basis=basis,
        primary=primary.sigma,
        whitening=whitening,
        outside=outside,
        rank_primary=primary.rank,
        rank_harmful=rank,
        # An eigenvector turned by an angle carries its eigenvalue along: for the harmful task that is the smallest.
        harmful_only=outside > 100 * ((features * eps) ** 2 + primary.tilt + harmful.tilt / _spread(harmful)),
        resolved=sigma[rank - 1] > 50 * noise,
    )


def pencil_limit(k_primary: jax.Array, k_harmful: jax.Array, *, rtol: float | None = None) -> jax.Array:
    """The largest possible kappa(theta^T K_H theta) / kappa(theta^T K_P theta) over invertible theta, under Eq. 1.

    Infinite if K_H has directions that K_P lacks (module docstring): scaling those alone raises kappa(H_H) for ever.
    `limits.pair_limit` also gives the limit in the primary's range, and takes data instead of formed covariances.

    Args:
      k_primary: covariance, shape (d, d), as `inputs.as_array` takes it.
      k_harmful: covariance, shape (d, d), the same.
      rtol: eigenvalues at most this share of a covariance's largest are zero; None is the rounding level d eps.

    Returns:
      A scalar, at least 1. NaN if a traced covariance is zero or not finite.

    Raises:
      InputError: if a covariance is no square of real numbers; if it is concrete and not finite, not symmetric, not positive
        semi-definite beyond rounding, zero, or nowhere a normal number; if the two differ in size; or if rtol is not in [0, 1).

    >>> import jax.numpy as jnp
    >>> round(float(pencil_limit(jnp.diag(jnp.array([4.0, 1.0])), jnp.diag(jnp.array([1.0, 1.0])))), 4)
    4.0
    """
    pencil = covariance_pencil(k_primary, k_harmful, rtol=rtol)
    return jnp.where(pencil.harmful_only, jnp.inf, pencil.largest_ratio)


def covariance_pencil(k_primary: jax.Array, k_harmful: jax.Array, *, rtol: float | None = None) -> Pencil:
    """The pencil of two covariances in units of their own; arguments and errors as in `pencil_limit`."""
    k_primary, k_harmful = check_covariance(k_primary, "k_primary"), check_covariance(k_harmful, "k_harmful")
    if k_primary.shape != k_harmful.shape:
        raise InputError(f"k_harmful: has shape {k_harmful.shape} and k_primary {k_primary.shape}; make them equal")
    check_rtol(rtol)
    dtype = np.promote_types(k_primary.dtype, k_harmful.dtype)
    spectra = (covariance_spectrum(normalised(k.astype(dtype)).values, rtol=rtol) for k in (k_primary, k_harmful))
    return diagonalise(*spectra)


def check_rtol(rtol: float | None) -> None:
    """Raises `InputError` unless rtol is None or in [0, 1)."""
    if rtol is not None and not 0 <= rtol < 1:
        raise InputError(f"rtol: needs a number in [0, 1), got {rtol}; use None for the rounding level")


def check_covariance(k, name: str) -> jax.Array:
    """K as an array; raises `InputError` unless it is square and, if concrete, symmetric, PSD within rounding, not zero."""
    k = as_matrix(k, name)
    if k.ndim != 2 or k.shape[0] != k.shape[1]:
        raise InputError(f"{name}: needs shape (d, d), got {k.shape}; give a covariance matrix")
    if not is_concrete(k):
        return k
    values = np.asarray(k)
    largest = np.abs(values).max()
    if largest == 0:
        raise InputError(f"{name}: is zero everywhere, so the task has no directions; check how it was made")
    smallest = float(jnp.finfo(k.dtype).smallest_normal)
    if largest < smallest:
        raise InputError(
            f"{name}: is below {smallest:.1e} everywhere, which processors count as zero; multiply the inputs"
        )
    values = values / largest  # so that no sum overflows
    rounding = 100 * rounding_tolerance(len(values), k.dtype)
    if np.abs(values - values.T).max() > rounding:
        raise InputError(f"{name}: is not symmetric; use covariance(x), or (k + k.T) / 2")
    lowest = float(np.linalg.eigvalsh(values)[0])
    if lowest < -rounding * len(values):
        raise InputError(
            f"{name}: is not positive semi-definite, its smallest eigenvalue is {lowest * float(largest):.3g}"
        )
    return k


def _safe(values: jax.Array) -> jax.Array:
    return jnp.where(values > 0, values, 1)
