"""How the cost grows with d, with the rows N, with the batch and with the number of pairs, with fitted exponents.

    python -m benchmarks.growth [--rounds 5] [--out DIR]

Float64 on the CPU. With d and with the batch: one step of Algorithm 1 with minibatch Hessians. With the pairs: the same, mapped
over pairs. With N: the covariance of N rows, which is all of a run whose cost depends on them. The exponent is the slope of
the logarithm of the fastest time against that of the size; what operations alone would give stands beside it, and sizes that
are too small to fill the processor stay below it. LAPACK gets one thread, as matrices of the batch's size are small.

Answers: every step is compared with NumPy's, from eigenvalues of the whole (d, d) Hessians; every covariance with NumPy's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._data import features
from benchmarks._data import pair as synthetic_pair
from benchmarks._pictures import growth
from benchmarks._timing import arguments, blas_threads, in_turn, relative_difference, save
from cimm_jax import methods
from cimm_jax.numerics.hessian import covariance
from cimm_jax.tasks import TaskPair, stack_pairs
from cimm_jax.views.render.terminal import print_table

RATE, TOLERANCE = 1e-3, 1e-6
BATCH, D, PAIRS_D = 64, 784, 256
SHARE = 0.1


class Axis(NamedTuple):
    """What grows.

    Attributes:
      name: of the size.
      sizes: ascending.
      expected: exponent by counting operations.
      make: size -> a call to time, and how far its answer is from NumPy's.
    """

    name: str
    sizes: Sequence[int]
    expected: float
    make: Callable[[int], tuple[Callable[[], Any], float]]


def numpy_step(state, batch: TaskPair) -> np.ndarray:
    """Theta after a step of plain gradient descent, by the equations of the paper on (d, d) Hessians."""
    theta, omega = np.asarray(state.theta), np.asarray(state.omega)
    (x_primary, y), (x_harmful, _) = (tuple(map(np.asarray, task)) for task in batch)
    residual = (x_primary @ theta @ omega - y) / len(y)
    gradient = np.outer(x_primary.T @ residual, omega)
    weights = np.asarray(state.weights)
    for weight, x, rule in zip(weights, (x_primary, x_harmful), (_well, _ill), strict=True):
        f = x @ theta
        sigma, v = np.linalg.eigh(f.T @ f)
        gradient += weight * theta @ (v * rule(sigma, min(f.shape))) @ v.T
    return theta - RATE * gradient


def _well(sigma: np.ndarray, rank: int) -> np.ndarray:
    del rank
    slopes = -2 * sigma / len(sigma)
    slopes[-1] += 2 * sigma[-1]
    return slopes


def _ill(sigma: np.ndarray, rank: int) -> np.ndarray:
    kept = np.where(np.arange(len(sigma)) >= len(sigma) - rank, sigma, 0)
    lowest = sigma[-rank]
    slopes = -2 * kept / rank
    slopes[-rank] += 2 * lowest
    return slopes / ((kept**2).sum() / (2 * rank) - lowest**2 / 2) ** 2


def method() -> methods.Method:
    """Balanced weights, plain gradient descent, which NumPy writes in one line."""
    return methods.algorithm1(optimizer=optax.sgd(RATE), hessian=methods.HessianFrom.BATCH)


def one_step(d: int, batch: int) -> tuple[Callable[[], Any], float]:
    """A step of one pair."""
    pair, used = synthetic_pair(batch, d), method()
    state = used.init(jax.random.key(0), pair)
    theta = state.theta + 0.01 * jax.random.normal(jax.random.key(1), (d, d), float)
    state = state._replace(theta=theta)
    step = jax.jit(lambda state: used.step(state, pair)[0].theta)
    moved = numpy_step(state, pair) - np.asarray(theta)
    return partial(step, state), relative_difference(np.asarray(step(state) - theta), moved)


def many_steps(count: int) -> tuple[Callable[[], Any], float]:
    """A step of every pair; the last one is compared."""
    pairs, used = [synthetic_pair(BATCH, PAIRS_D, seed) for seed in range(count)], method()
    stack = stack_pairs(pairs)
    state = jax.vmap(partial(used.init, jax.random.key(0)))(stack)
    step = jax.jit(lambda state: jax.vmap(lambda state, pair: used.step(state, pair)[0].theta)(state, stack))
    last = jax.tree.map(lambda leaf: leaf[-1], state)
    moved = numpy_step(last, pairs[-1]) - np.asarray(last.theta)
    return partial(step, state), relative_difference(np.asarray(step(state)[-1] - last.theta), moved)


def one_covariance(rows: int) -> tuple[Callable[[], Any], float]:
    """Of so many rows."""
    x = features(rows, D)
    on_device, compiled = jnp.asarray(x), jax.jit(covariance)
    return partial(compiled, on_device), relative_difference(compiled(on_device), x.T @ x)


AXES = (
    Axis("d", (98, 196, 392, 784), 2, partial(one_step, batch=BATCH)),
    Axis("batch", (16, 32, 64, 128, 256), 1, partial(one_step, D)),
    Axis("N", (1000, 2000, 4000, 8000), 1, one_covariance),
    Axis("pairs", (1, 2, 4, 8, 16), 1, many_steps),
)


def main() -> None:
    """Prints sizes, times and exponents; with --out, also growth.json and growth.png."""
    asked = arguments(__doc__, rounds=5).parse_args()
    jax.config.update("jax_enable_x64", True)
    blas_threads()(1)
    curves, rows, record = {}, [], {}
    for axis in AXES:
        made = {str(size): axis.make(size) for size in axis.sizes}
        difference = max(apart for _, apart in made.values())
        if difference > TOLERANCE:
            raise SystemExit(f"{axis.name}: the answers differ by {difference:.1e}")
        timed = in_turn({size: call for size, (call, _) in made.items()}, asked.rounds, share=SHARE)
        fastest = [found.fastest for found in timed.values()]
        exponent = float(np.polyfit(np.log(axis.sizes), np.log(fastest), 1)[0])
        last = float(np.log2(fastest[-1] / fastest[-2]) / np.log2(axis.sizes[-1] / axis.sizes[-2]))
        times = " / ".join(f"{1e3 * value:.3g}" for value in fastest)
        sizes = " / ".join(map(str, axis.sizes))
        rows.append([axis.name, sizes, times, exponent, last, axis.expected, f"{difference:.0e}"])
        curves[axis.name] = (np.divide(axis.sizes, axis.sizes[0]), fastest, exponent)
        record[axis.name] = {"sizes": axis.sizes, "fastest": fastest, "exponent": exponent, "difference": difference}
    columns = ["what grows", "sizes", "fastest, ms", "exponent", "of the last two", "operations", "answers differ by"]
    print_table(columns, rows, title=f"Growth; otherwise d = {D} ({PAIRS_D} for pairs), batch {BATCH}")
    save(asked.out, "growth", record, growth(curves, x="size, relative to the smallest", title="Growth"))


if __name__ == "__main__":
    main()
