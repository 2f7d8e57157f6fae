"""The closed form over all 90 ordered pairs of digits in one compiled program, against one generalised eigenproblem a pair.

    python -m benchmarks.pencil [--data-dir DIR_WITH_MNIST]

Without a folder: scikit-learn's digits, d = 64. With one: MNIST, d = 784, all training images. For every pair and both budgets
(1 and "keep") the extractor theta is computed from the raw images, and the pair's limit beside it. The other side is SciPy's
`eigh(K_H, K_P + ridge)` on ten covariances that are already there, eigenvalues only, without any theta. The answer is checked
on some pairs: without a ridge the share of the limit that theta reaches must be 1, and mu with one must agree with SciPy's in
the primary's range.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from cimm_jax.allocation import allowance, largest_kappa
from cimm_jax.data.digit_pairs import ordered_pairs
from cimm_jax.data.registry import load_digit_images
from cimm_jax.limits import seen_in_range, share_of_limit
from cimm_jax.methods.pencil import extractor
from cimm_jax.pencil import TaskSpectrum, diagonalise, feature_spectrum

BUDGETS = (1.0, "keep")
RIDGE = 1e-4
CHECKED = 3


def padded_digits(data: str, data_dir: Path | None) -> np.ndarray:
    """All training images of each digit, shape (10, rows, d), rows of zeros at the end: they add nothing to a covariance."""
    images = load_digit_images(data, data_dir=data_dir)
    parts = [images.train_x[images.train_y == digit] for digit in range(10)]
    rows = max(map(len, parts))
    return np.stack([np.pad(part, ((0, rows - len(part)), (0, 0))) for part in parts])


@jax.jit
def spectra(digits: jax.Array) -> TaskSpectrum:
    """Of every digit."""
    return _map_side_by_side(feature_spectrum, digits)


@partial(jax.jit, static_argnums=(2, 3))
def all_pairs(digits: jax.Array, pairs: jax.Array, size: int, ridge: float):
    """Extractors (pairs, budgets, d, d), limits and mu of every pair, in directions up to the largest rank."""
    found = spectra(digits)
    cut = found._replace(sigma=found.sigma[:, :size], vectors=found.vectors[:, :, :size])

    def one(pair):
        primary, harmful = (jax.tree.map(lambda leaf, task=task: leaf[task], cut) for task in pair)
        pencil = diagonalise(primary, harmful, ridge=ridge)
        thetas = [extractor(pencil, largest_kappa(pencil, allowance(pencil, budget)), ridge) for budget in BUDGETS]
        return jnp.stack(thetas), pencil.largest_ratio, pencil.rank_harmful

    return _map_side_by_side(one, pairs)


def _map_side_by_side(function, items):
    """`lax.map` that holds two independent calls a turn, which XLA's CPU backend runs on two cores."""

    def two(items):
        return jax.tree.map(lambda *parts: jnp.stack(parts), *(function(item) for item in items))

    results = jax.lax.map(two, items.reshape(len(items) // 2, 2, *items.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(len(items), *leaf.shape[2:]), results)


def timed(function, *arguments):
    """Seconds of one call, finished, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return time.perf_counter() - start, result


def by_scipy(covariances: list[np.ndarray], pairs: np.ndarray) -> list[np.ndarray]:
    """Generalised eigenvalues of every pair, ascending."""
    eye = np.eye(len(covariances[0]))
    ridged = [k + RIDGE * np.trace(k) / len(k) * eye for k in covariances]
    return [scipy.linalg.eigh(covariances[h], ridged[p], eigvals_only=True) for p, h in pairs]


def check(digits: jax.Array, pairs: np.ndarray, size: int) -> str:
    """Compares some pairs with the theory and with SciPy; raises if they do not agree."""
    found = spectra(digits)
    worst_share = worst_mu = 0.0
    for index in range(0, len(pairs), len(pairs) // CHECKED):
        primary, harmful = (
            TaskSpectrum(found.sigma[t, :size], found.vectors[t, :, :size], found.rank[t], found.tilt[t])
            for t in pairs[index]
        )
        pencil = diagonalise(primary, harmful)
        theta = extractor(pencil, largest_kappa(pencil, allowance(pencil, "keep")), 0.0)
        worst_share = max(worst_share, abs(float(share_of_limit(theta, seen_in_range(pencil)).share) - 1))
        rank = int(primary.rank)
        x = digits[pairs[index][1]] @ primary.vectors[:, :rank]
        ridged = np.diag(primary.sigma[:rank] + RIDGE * primary.sigma.sum() / digits.shape[2])
        expected = scipy.linalg.eigh(np.asarray(x.T @ x), ridged, eigvals_only=True)[-1]
        worst_mu = max(worst_mu, abs(float(diagonalise(primary, harmful, ridge=RIDGE).mu[0]) / expected - 1))
    assert worst_share < 1e-6, worst_share
    assert worst_mu < 1e-6, worst_mu
    return f"share of the limit off by at most {worst_share:.1e}, mu_max by {worst_mu:.1e}"


def main() -> None:
    """Prints seconds, ratio and the check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    folder = parser.parse_args().data_dir
    jax.config.update("jax_enable_x64", True)
    digits = jnp.asarray(padded_digits("digits" if folder is None else "mnist", folder))
    pairs = np.asarray(ordered_pairs(), np.int32)
    ranks = np.asarray(spectra(digits).rank)
    size = int(ranks.max())
    first, _ = timed(all_pairs, digits, jnp.asarray(pairs), size, RIDGE)
    seconds, (thetas, ratios, _) = timed(all_pairs, digits, jnp.asarray(pairs), size, RIDGE)
    assert np.isfinite(np.asarray(thetas)).all()
    covariances = [np.asarray(x.T @ x) for x in digits]
    start = time.perf_counter()
    by_scipy(covariances, pairs)
    scipy_seconds = time.perf_counter() - start
    print(
        f"{digits.shape[1]} rows a digit, d = {digits.shape[2]}, ranks {ranks.min()} to {ranks.max()}, {len(pairs)} pairs"
    )
    print(f"closed form, both budgets, from raw images: {seconds:.2f} s (first call, compiled: {first:.2f} s)")
    print(
        f"SciPy, eigenvalues only, covariances given: {scipy_seconds:.2f} s, {scipy_seconds / seconds:.2f} times ours"
    )
    print(f"mean log mu_max / mu_min with a ridge of {RIDGE:g}: {np.log(np.asarray(ratios)).mean():.2f}")
    print(f"checked on {CHECKED} pairs: {check(digits, pairs, size)}")


if __name__ == "__main__":
    main()
