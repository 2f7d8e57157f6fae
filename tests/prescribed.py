"""Matrices made from a prescribed spectrum, so that every condition number is known exactly. NumPy float64 throughout.

Leading axes of a spectrum are a batch: sigma of shape (..., p) gives matrices of shape (..., m, n).
"""

import numpy as np


def orthonormal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Orthonormal columns, shape (..., m, n) with m >= n, Haar distributed."""
    q, r = np.linalg.qr(rng.standard_normal(shape))
    return q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]


def matrix(rng: np.random.Generator, sigma, shape: tuple[int, int] | None = None) -> np.ndarray:
    """U diag(sigma) V^T of shape (..., m, n), square by default."""
    sigma = np.asarray(sigma, float)
    *batch, size = sigma.shape
    rows, columns = shape or (size, size)
    return (orthonormal(rng, *batch, rows, size) * sigma[..., None, :]) @ orthonormal(rng, *batch, columns, size).mT


def covariance(rng: np.random.Generator, sigma) -> np.ndarray:
    """Q diag(sigma) Q^T, exactly symmetric."""
    q = orthonormal(rng, *np.shape(sigma), np.shape(sigma)[-1])
    k = (q * np.asarray(sigma, float)[..., None, :]) @ q.mT
    return (k + k.mT) / 2


def features(rng: np.random.Generator, sigma, shape: tuple[int, int]) -> np.ndarray:
    """F of the given shape, such that F^T F has the non-zero spectrum sigma."""
    return matrix(rng, np.sqrt(sigma), shape)


def geometric(kappa: float, size: int) -> np.ndarray:
    """From 1 down to 1 / kappa in equal ratios."""
    return np.geomspace(1.0, 1 / kappa, size)


def one_small(kappa: float, size: int) -> np.ndarray:
    """All ones but the last, 1 / kappa."""
    return np.r_[np.ones(size - 1), 1 / kappa]


def random_spectra(rng: np.random.Generator, count: int, size: int, log_range: float = 3.0) -> np.ndarray:
    """Distinct descending spectra with kappa up to e^log_range and a random overall scale; shape (count, size)."""
    sigma = np.exp(log_range * rng.uniform(0, 1, (count, size)) + rng.normal(0, 1, (count, 1)))
    return -np.sort(-sigma, axis=-1)


def kappa_of(s: np.ndarray, rank: int | None = None) -> np.ndarray:
    """sigma_1 / sigma_k of the actual matrix, by NumPy."""
    sigma = np.linalg.svd(s, compute_uv=False)
    with np.errstate(divide="ignore"):
        return sigma[..., 0] / sigma[..., (rank or sigma.shape[-1]) - 1]


def relative_error(value, reference) -> float:
    """||value - reference||_F / ||reference||_F over the last two axes, the largest of a batch."""
    value, reference = np.asarray(value, float), np.asarray(reference, float)
    return float(np.max(np.linalg.norm(value - reference, axis=(-2, -1)) / np.linalg.norm(reference, axis=(-2, -1))))
