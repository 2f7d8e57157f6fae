"""Throughput of a sweep with minibatch Hessians at MNIST's width, by how many pairs are worked on at once.

    python -m benchmarks.sweep [--pairs 4] [--rows 400] [--steps 16] [--at-once 1 2 4] [--data-dir MNIST] [--out DIR]

Without a folder: ten random tasks of 784 features. Every sweep is run with two numbers of steps, in turn: their difference is
the cost of a step, what is left that of starting and of measuring. Answers: all sizes of blocks must find the same RIR, and
that of the first pair run by itself. LAPACK gets one thread, which is best for the small matrices of a step.

The last lines extrapolate to Table 2 of the paper in full: 90 pairs, 30 epochs of 5,421 rows in batches of 64, one method. They
are an estimate from the steps that were timed, not a run.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._data import features
from benchmarks._pictures import dots
from benchmarks._timing import (
    Row,
    arguments,
    blas_threads,
    check_agreement,
    positive,
    relative_difference,
    save,
    seconds,
)
from cimm_jax import immunize, methods
from cimm_jax.data import DigitKind, load_digit_images, ordered_pairs, sweep_tasks
from cimm_jax.errors import InputError
from cimm_jax.measures.ratios import relative_immunization_ratio
from cimm_jax.methods.pairs import Pairs, pair_at, pairs_of
from cimm_jax.tasks import SplitTask, Task
from cimm_jax.views.render.terminal import print_table

D, BATCH = 784, 64
FULL_PAIRS, FULL_ROWS, EPOCHS = 90, 5421, 30
FULL_STEPS = EPOCHS * -(-FULL_ROWS // BATCH)
HELDOUT_ROWS = 100
TOLERANCE = 1e-6


class Cost(NamedTuple):
    """Of one size of blocks, in seconds.

    Attributes:
      short: of the whole sweep with the smaller number of steps.
      long: the same with the larger one.
      step: of one step of one pair.
      rest: starting and measuring one pair.
    """

    short: float
    long: float
    step: float
    rest: float


def random_tasks(rows: int) -> SplitTask:
    """Ten tasks with targets -1 and +1."""
    rng = np.random.default_rng(0)

    def part(rows: int, seed: int) -> Task:
        x = np.stack([rng.permuted(features(rows, D, seed=seed + digit), axis=1) for digit in range(10)])
        return Task(x, rng.choice([-1.0, 1.0], (10, rows)))

    return SplitTask(part(rows, 0), part(HELDOUT_ROWS, 10))


def chosen_pairs(asked: argparse.Namespace) -> Pairs:
    """The first of the 90 ordered pairs."""
    if asked.data_dir is None:
        tasks = random_tasks(asked.rows)
    else:
        images = load_digit_images("mnist", data_dir=asked.data_dir)
        tasks = sweep_tasks(images, DigitKind.SINGLE, asked.rows, min(asked.rows, HELDOUT_ROWS))
    return pairs_of(tasks, ordered_pairs()[: asked.pairs])


def own_run(pairs: Pairs, method: methods.Method, key: jax.Array, steps: int) -> float:
    """RIR of the first pair, immunized by itself."""
    first = jax.tree.map(jnp.asarray, pair_at(pairs, 0).train)  # pyright: ignore[reportArgumentType]
    theta = immunize(method, first, key=key, steps=steps, record_every=steps, batch_size=BATCH).theta
    return float(relative_immunization_ratio(theta, first).rir)


def measure(pairs: Pairs, sizes: list[int], steps: int, rounds: int) -> tuple[dict[int, Cost], dict[int, float]]:
    """Costs by size of the blocks, and how far the answers are from the first size's and from a run by itself."""
    method, keys = methods.algorithm1(hessian=methods.HessianFrom.BATCH), jax.random.split(jax.random.key(0), 1)
    counts = (2, 2 + steps)

    def run(at_once: int, count: int):
        found = methods.sweep(
            {"a": method},
            pairs,
            keys=keys,
            steps=count,
            batch_size=BATCH,
            chunks=1,
            pairs_at_once=at_once,
        )
        return found["a"].train.ratio.rir

    answers = {size: np.asarray(run(size, counts[1])) for size in sizes}  # compiles everything
    alone = own_run(pairs, method, keys[0], counts[1])
    differences = {
        size: max(relative_difference(rir, answers[sizes[0]]), abs(float(rir[0, 0]) / alone - 1))
        for size, rir in answers.items()
    }
    times = {(size, count): [] for size in sizes for count in counts}
    for _ in range(rounds):
        for (size, count), values in times.items():
            values.append(seconds(lambda size=size, count=count: run(size, count)))
    number = len(pairs.primary_of)
    costs = {}
    for size in sizes:
        short, long = (min(times[size, count]) for count in counts)
        step = (long - short) / steps / number
        costs[size] = Cost(short, long, step, short / number - counts[0] * step)
    return costs, differences


def main() -> None:
    """Prints the table and the extrapolation; with --out, also sweep.json and sweep.png."""
    parser = arguments(__doc__, pairs=4, rows=400, steps=16, rounds=2)
    parser.add_argument("--at-once", type=positive, nargs="+", default=[1, 2, 4], help="pairs at once, to compare")
    parser.add_argument("--data-dir", type=Path, help="folder with MNIST")
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    blas_threads()(1)
    try:
        costs, differences = measure(chosen_pairs(asked), asked.at_once, asked.steps, asked.rounds)
    except InputError as error:
        raise SystemExit(f"benchmarks.sweep: {error}") from error
    columns = [
        "pairs at once",
        "a step of a pair, ms",
        "steps a second",
        "start and measure a pair, s",
        "answers differ by",
    ]
    cells = [
        [size, 1e3 * cost.step, 1 / cost.step, cost.rest, f"{differences[size]:.0e}"] for size, cost in costs.items()
    ]
    print_table(
        columns, cells, title=f"Sweep of {asked.pairs} pairs, {asked.rows} x {D}, batch {BATCH}, float64, fastest"
    )
    names = {size: f"{size} at once" for size in costs}
    base = costs[asked.at_once[0]]
    rows = [
        Row(names[size], cost.long, cost.long, cost.long / base.long, cost.long / base.long, differences[size])
        for size, cost in costs.items()
    ]
    check_agreement(rows, TOLERANCE)
    extrapolated = extrapolate(costs, asked.rows)
    record = {**vars(asked), "data_dir": str(asked.data_dir), "out": str(asked.out)}
    record |= {"costs": {names[size]: cost._asdict() for size, cost in costs.items()}, "minutes": extrapolated}
    save(asked.out, "sweep", record, dots(rows, title=f"Sweep of {asked.pairs} pairs, {asked.steps + 2} steps"))


def extrapolate(costs: dict[int, Cost], rows: int) -> dict[str, float]:
    """Prints and returns minutes for one method of Table 2 in full."""
    best = min(costs.values(), key=lambda cost: cost.step)
    found = {"steps": FULL_PAIRS * FULL_STEPS * best.step / 60, "start and measure": FULL_PAIRS * best.rest / 60}
    print(
        f"EXTRAPOLATED, not run: Table 2 in full ({FULL_PAIRS} pairs x {FULL_STEPS} steps), one method: the steps take "
        f"{found['steps']:.1f} minutes; starting and measuring {found['start and measure']:.1f} more"
        + ("." if rows == FULL_ROWS else f" with {rows} rows a digit instead of {FULL_ROWS}, which would take longer.")
    )
    return found


if __name__ == "__main__":
    main()
