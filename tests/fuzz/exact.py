"""Singular values to eighty digits of the very numbers that a function is given, and what follows from them."""

import mpmath
import numpy as np

mpmath.mp.dps = 80

ZERO = mpmath.mpf(10) ** -60
"""A singular value below this share of the largest is zero but for the oracle's own rounding, or as good as."""


def singular_values(s) -> list[mpmath.mpf]:
    """In descending order."""
    found = mpmath.svd_r(mpmath.matrix(np.asarray(s, float).tolist()), compute_uv=False)
    return sorted((mpmath.fabs(value) for value in found), reverse=True)


def generalised_eigenvalues(k_primary, k_harmful) -> list[mpmath.mpf]:
    """mu of K_H v = mu K_P v, K_P positive definite, in descending order."""
    primary, harmful = (mpmath.matrix(np.asarray(k, float).tolist()) for k in (k_primary, k_harmful))
    inverse = mpmath.cholesky(primary) ** -1
    reduced = inverse * harmful * inverse.T
    return sorted(mpmath.eigsy((reduced + reduced.T) / 2, eigvals_only=True), reverse=True)


def well(sigma) -> mpmath.mpf:
    """R_well."""
    return (sigma[0] ** 2 - mpmath.fsum(value**2 for value in sigma) / len(sigma)) / 2


def ill(sigma, rank: int, eps: float) -> tuple[mpmath.mpf, mpmath.mpf]:
    """R_ill, with its denominator held at eps, and how large a share of its first term the denominator is."""
    mean = mpmath.fsum(value**2 for value in sigma[:rank]) / rank
    gap = mean - sigma[rank - 1] ** 2
    return 2 / max(gap, eps * mean), gap / mean


def product(x) -> np.ndarray:
    """x^T x of whole numbers, in whole numbers of any length."""
    whole = np.asarray(x).astype(object)
    return whole.T @ whole
