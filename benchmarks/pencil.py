"""The closed form over all 90 ordered pairs of digits in one compiled program, against one generalised eigenproblem a pair.

    python -m benchmarks.pencil [--rounds 2] [--data-dir DIR_WITH_MNIST] [--out DIR]

Without a folder: scikit-learn's digits, d = 64. With one: MNIST, d = 784, all training images. For every pair and both budgets
(1 and "keep") the extractor theta is computed from the raw images, and the pair's limit beside it. The other side is SciPy's
`eigh(K_H, K_P + ridge)` on ten covariances that are already there, eigenvalues only, without any theta. The answer is checked
on some pairs: without a ridge the share of the limit that theta reaches must be 1, and mu with one must agree with SciPy's in
the primary's range.
"""

import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from benchmarks._pictures import dots
from benchmarks._timing import against, arguments, check_agreement, in_turn, print_rows, save
from cimm_jax.closed_form.allocation import allowance, largest_kappa
from cimm_jax.closed_form.limits import seen_in_range, share_of_limit
from cimm_jax.closed_form.pencil import TaskSpectrum, diagonalise, feature_spectrum
from cimm_jax.closed_form.solution import extractor
from cimm_jax.data.digit_pairs import ordered_pairs
from cimm_jax.data.registry import load_digit_images

BUDGETS = (1.0, "keep")
RIDGE = 1e-4
CHECKED, TOLERANCE = 3, 1e-6


def padded_digits(data: str, data_dir: Path | None) -> np.ndarray:
    """All training images of each digit, shape (10, rows, d), rows of zeros at the end: they add nothing to a covariance."""
    images = load_digit_images(data, data_dir=data_dir)
    parts = [images.train_x[images.train_y == digit] for digit in range(10)]
    rows = max(map(len, parts))
    return np.stack([np.pad(part, ((0, rows - len(part)), (0, 0))) for part in parts])


@jax.jit
def spectra(digits: jax.Array) -> list[TaskSpectrum]:
    """Of every digit."""
    return [feature_spectrum(x) for x in digits]


@partial(jax.jit, static_argnums=(1, 2))
def all_pairs(digits: jax.Array, ranks: tuple[int, ...], ridge: float):
    """For each of `ordered_pairs` both extractors and mu_max / mu_min, each pair in the directions of its own ranges.

    One program without loops: on CPU the same matrix products take a quarter longer inside `lax.map`.
    """
    cut = [spectrum_of_rank(found, rank) for found, rank in zip(spectra(digits), ranks, strict=True)]
    results = []
    for primary, harmful in ordered_pairs():
        pencil = diagonalise(cut[primary], cut[harmful], ridge=ridge, padding=0)
        scales = [largest_kappa(pencil, allowance(pencil, budget)) for budget in BUDGETS]
        results.append(([extractor(pencil, scale, ridge) for scale in scales], pencil.largest_ratio))
    return results


def spectrum_of_rank(found: TaskSpectrum, rank: int) -> TaskSpectrum:
    """Without the columns beyond the rank."""
    return found._replace(sigma=found.sigma[:rank], vectors=found.vectors[:, :rank])


def by_scipy(covariances: list[np.ndarray]) -> list[np.ndarray]:
    """Generalised eigenvalues of every pair, ascending."""
    eye = np.eye(len(covariances[0]))
    ridged = [k + RIDGE * np.trace(k) / len(k) * eye for k in covariances]
    return [scipy.linalg.eigh(covariances[h], ridged[p], eigvals_only=True) for p, h in ordered_pairs()]


def check(digits: jax.Array, ranks: tuple[int, ...]) -> tuple[float, float]:
    """Compares some pairs with the theory and with SciPy: how far the share of the limit, and mu_max, are off at most."""
    cut = [spectrum_of_rank(found, rank) for found, rank in zip(spectra(digits), ranks, strict=True)]
    worst_share = worst_mu = 0.0
    for primary, harmful in ordered_pairs()[:: 90 // CHECKED]:
        pencil = diagonalise(cut[primary], cut[harmful])
        theta = extractor(pencil, largest_kappa(pencil, allowance(pencil, "keep")), 0.0)
        worst_share = max(worst_share, abs(float(share_of_limit(theta, seen_in_range(pencil)).share) - 1))
        sigma, vectors = cut[primary].sigma, cut[primary].vectors
        x = digits[harmful] @ vectors
        ridged = np.diag(sigma + RIDGE * sigma.sum() / digits.shape[2])
        expected = scipy.linalg.eigh(np.asarray(x.T @ x), ridged, eigvals_only=True)[-1]
        found = diagonalise(cut[primary], cut[harmful], ridge=RIDGE, padding=0).mu[0]
        worst_mu = max(worst_mu, abs(float(found) / expected - 1))
    return worst_share, worst_mu


def main() -> None:
    """Prints the table, the mean and the check; with --out, also pencil.json and pencil.png."""
    parser = arguments(__doc__, rounds=2)
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    digits = jnp.asarray(padded_digits("digits" if asked.data_dir is None else "mnist", asked.data_dir))
    ranks = tuple(int(found.rank) for found in spectra(digits))
    start = time.perf_counter()
    results = jax.block_until_ready(all_pairs(digits, ranks, RIDGE))
    first = time.perf_counter() - start
    assert all(np.isfinite(theta).all() for thetas, _ in results for theta in thetas)
    covariances = [np.asarray(x.T @ x) for x in digits]
    calls = {
        "closed form, both budgets, from raw images": partial(all_pairs, digits, ranks, RIDGE),
        "SciPy, eigenvalues only, covariances given": partial(by_scipy, covariances),
    }
    share, mu = check(digits, ranks)
    ours, other = calls
    rows = against(ours, in_turn(calls, asked.rounds), {ours: share, other: mu})
    title = f"{len(results)} pairs, {digits.shape[1]} rows a digit, d = {digits.shape[2]}, ranks {min(ranks)} to {max(ranks)}"
    print_rows(rows, title=title)
    print(f"answers, on {CHECKED} pairs: the share of the limit against 1, and mu_max with a ridge against SciPy's")
    print(f"first call, compiled: {first:.2f} s")
    print(f"mean log mu_max / mu_min with a ridge of {RIDGE:g}: {np.mean([np.log(ratio) for _, ratio in results]):.2f}")
    check_agreement(rows, TOLERANCE)
    save(asked.out, "pencil", {"rows": [row._asdict() for row in rows]}, dots(rows, title=title))


if __name__ == "__main__":
    main()
