"""The fast paths of the linear algebra against the plain ones, in turn in one run, with their answers compared.

    python -m benchmarks.eigenpairs

Rows: the largest eigenpair alone (Lanczos) against all of them; a minibatch's eigenpairs from the small Gram matrix
against those of the large one; 90 pairs decomposed one after another against XLA's batched kernel. float64.
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.decompositions import eigh
from cimm_jax.report.tables import print_table
from cimm_jax.spectra import eigenpairs, feature_eigenpairs, largest_eigenpair

ROUNDS = 7


def compare(plain: Callable, fast: Callable, argument: jax.Array) -> tuple[float, float, float]:
    """Median seconds of both, called in turn after a warm-up, and the relative difference of their answers."""
    plain, fast = jax.jit(plain), jax.jit(fast)
    reference, answer = np.asarray(plain(argument)), np.asarray(fast(argument))
    difference = np.linalg.norm(answer - reference) / np.linalg.norm(reference)
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for column, function in zip(times, (plain, fast), strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(argument))
            column.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1]), float(difference)


def features(rows: int, columns: int, *batch: int) -> jax.Array:
    """Random features of scales 1 to 1e-3 and, as those of real data, of non-zero mean."""
    rng = np.random.default_rng(0)
    return jnp.asarray((0.3 + rng.standard_normal((*batch, rows, columns))) * np.geomspace(1, 1e-3, columns))


def main() -> None:
    """Prints one row per comparison."""
    jax.config.update("jax_enable_x64", True)
    tall, batch = features(2000, 784), features(64, 784)
    pairs = features(120, 64, 90)
    cases = {
        "largest eigenpair, d = 784: eigh / Lanczos": (
            lambda h: eigenpairs(h).sigma[:1],
            lambda h: largest_eigenpair(h).sigma[None],
            tall.T @ tall,
        ),
        "64 rows of 784 features: large Gram / small Gram": (
            lambda f: eigenpairs(f.T @ f).sigma[:64],
            lambda f: feature_eigenpairs(f).sigma,
            batch,
        ),
        "90 matrices of d = 64: batched kernel / loop": (
            lambda h: jnp.linalg.eigh(h)[0],
            lambda h: eigh(h)[0],
            pairs.mT @ pairs,
        ),
    }
    rows = []
    for name, (plain, fast, argument) in cases.items():
        slow_seconds, fast_seconds, difference = compare(plain, fast, argument)
        if difference > 1e-9:
            raise SystemExit(f"{name}: the answers differ by {difference:.1e}")
        rows.append([name, 1e3 * slow_seconds, 1e3 * fast_seconds, slow_seconds / fast_seconds, f"{difference:.0e}"])
    print_table(["what", "plain, ms", "fast, ms", "ratio", "answers differ by"], rows, title="Linear algebra")


if __name__ == "__main__":
    main()
