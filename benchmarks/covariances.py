"""Covariances K = X^T X of many tasks at once against NumPy, in turn in one run, in float64 on the CPU.

    python -m benchmarks.covariances [--rounds 7] [--out DIR]

* ninety tasks of the size of scikit-learn's digits, and ten of MNIST's width: one compiled call for all of them, against
  NumPy's product of the stack and against a loop over the tasks;
* one task that comes in parts: `streamed_covariance` against NumPy adding up, and against NumPy with all rows at once.

NumPy sees that x.T @ x is symmetric and computes one half of it; XLA computes both.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._data import features
from benchmarks._pictures import dots
from benchmarks._timing import Row, against, arguments, check_agreement, in_turn, print_rows, relative_difference, save
from cimm_jax.numerics.hessian import covariance, streamed_covariance

TOLERANCE = 1e-12
SHARE = 0.1
"""Seconds that a short contender is repeated for in each round."""


def compare(calls: dict[str, Callable[[], Any]], title: str, rounds: int) -> list[Row]:
    """Prints the table of contenders, the first of which is ours."""
    reference, *others = calls
    expected = np.asarray(calls[others[0]]())
    differences = {name: relative_difference(call(), expected) for name, call in calls.items()}
    rows = against(reference, in_turn(calls, rounds, share=SHARE), differences)
    print_rows(rows, title=title)
    return rows


def stacked(count: int, rows: int, d: int) -> dict[str, Callable[[], Any]]:
    """All covariances of a stack of tasks."""
    x = features(rows, d, count)
    on_device, compiled = jnp.asarray(x), jax.jit(covariance)
    return {
        f"ours, {count} x {rows} x {d}": lambda: compiled(on_device),
        "NumPy, stack": lambda: x.mT @ x,
        "NumPy, loop": lambda: np.stack([part.T @ part for part in x]),
    }


def streamed(parts: int, rows: int, d: int) -> dict[str, Callable[[], Any]]:
    """One covariance of rows that come in parts."""
    x = features(rows, d, parts)
    on_device = [jnp.asarray(part) for part in x]
    whole = x.reshape(-1, d)
    return {
        f"ours, streamed, {parts} parts of {rows} x {d}": lambda: streamed_covariance(on_device),
        "NumPy, added up": lambda: sum(part.T @ part for part in x),
        "NumPy, at once": lambda: whole.T @ whole,
    }


def main() -> None:
    """Prints the tables; with --out, also covariances.json and covariances.png."""
    asked = arguments(__doc__, rounds=7).parse_args()
    jax.config.update("jax_enable_x64", True)
    cases = {
        "Covariances, digits' size": stacked(90, 170, 64),
        "Covariances, MNIST's width": stacked(10, 1000, 784),
        "One covariance in parts": streamed(10, 500, 784),
    }
    rows = {title: compare(calls, title, asked.rounds) for title, calls in cases.items()}
    everything = [row for part in rows.values() for row in part]
    check_agreement(everything, TOLERANCE)
    record = {title: [row._asdict() for row in part] for title, part in rows.items()}
    save(asked.out, "covariances", record, dots(everything, title="Covariances; ratios to ours in each group"))


if __name__ == "__main__":
    main()
