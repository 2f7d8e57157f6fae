"""Covariances K = X^T X of arrays in the host's memory against NumPy, in turn in one run, on the CPU.

    python -m benchmarks.covariances [--rounds 7] [--out DIR]

* one matrix as wide as MNIST's or EfficientNet's features, in float64 and float32, against `x.T @ x`;
* rows that come in parts: `streamed_covariance` and `CovarianceSum` against NumPy adding up;
* ninety tasks of the size of scikit-learn's digits, and ten of MNIST's width, against NumPy's product of the stack;
* the same inside of a compiled program, where XLA multiplies: NumPy's rank-k update computes one half, XLA both;
* the most memory that a process holds, summing a generated stream of 1e4 and of 1e6 rows, and mapped files of 1e4 and 2e5.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._data import features
from benchmarks._pictures import dots
from benchmarks._timing import Row, against, arguments, check_agreement, in_turn, print_rows, relative_difference, save
from cimm_jax.data.covariance_files import covariance_of_files
from cimm_jax.numerics.covariance_sums import CovarianceSum
from cimm_jax.numerics.hessian import covariance, streamed_covariance
from cimm_jax.views.render.terminal import print_table

TOLERANCE = {np.float64: 1e-12, np.float32: 2e-6}
SHARE = 0.1
"""Seconds that a short contender is repeated for in each round."""

WIDTHS = (784, 1280)
CHUNK = 1000
STREAMED_WIDTH = 256


def compare(calls: dict[str, Callable[[], Any]], title: str, rounds: int, dtype: Any) -> list[Row]:
    """Prints the table of contenders, the first of which is ours, and checks that they agree."""
    reference, *others = calls
    expected = np.asarray(calls[others[0]]())
    differences = {name: relative_difference(call(), expected) for name, call in calls.items()}
    rows = against(reference, in_turn(calls, rounds, share=SHARE), differences)
    print_rows(rows, title=title)
    check_agreement(rows, TOLERANCE[dtype])
    return rows


def single(rows: int, d: int, dtype: Any) -> dict[str, Callable[[], Any]]:
    """One matrix."""
    x = features(rows, d).astype(dtype)
    on_device = jnp.asarray(x)
    return {
        f"ours, {rows} x {d}, {np.dtype(dtype)}": lambda: covariance(x),
        "NumPy": lambda: x.T @ x,
        "ours, an array of JAX": lambda: covariance(on_device),
    }


def summed(x: np.ndarray) -> np.ndarray:
    """By `CovarianceSum`."""
    total = CovarianceSum(x.shape[-1])
    for part in x:
        total.update(part)
    return total.value()


def streamed(parts: int, rows: int, d: int, dtype: Any) -> dict[str, Callable[[], Any]]:
    """One covariance of rows that come in parts."""
    x = features(rows, d, parts).astype(dtype)
    whole = x.reshape(-1, d)
    return {
        f"ours, streamed, {parts} parts of {rows} x {d}, {np.dtype(dtype)}": lambda: streamed_covariance(x),
        "NumPy, added up": lambda: sum(part.T @ part for part in x),
        "NumPy, at once": lambda: whole.T @ whole,
        "CovarianceSum, in float64": lambda: summed(x),
    }


def stacked(count: int, rows: int, d: int) -> dict[str, Callable[[], Any]]:
    """All covariances of a stack of tasks."""
    x = features(rows, d, count)
    return {
        f"ours, {count} x {rows} x {d}": lambda: covariance(x),
        "NumPy, stack": lambda: x.mT @ x,
        "NumPy, loop": lambda: np.stack([part.T @ part for part in x]),
    }


def compiled(count: int, rows: int, d: int) -> dict[str, Callable[[], Any]]:
    """All covariances of a stack of tasks inside of a compiled program."""
    x = features(rows, d, count)
    on_device, program = jnp.asarray(x), jax.jit(covariance)
    return {f"ours, compiled, {count} x {rows} x {d}": lambda: program(on_device), "NumPy, stack": lambda: x.mT @ x}


def generated(rows: int) -> Iterator[np.ndarray]:
    """So many rows of float32 features, a few at a time."""
    rng = np.random.default_rng(0)
    for _ in range(rows // CHUNK):
        yield rng.standard_normal((CHUNK, STREAMED_WIDTH), np.float32)


def hold(what: str, rows: int) -> int:
    """Sums rows, and says how much memory the process has held at most, in MiB; so it wants a process of its own."""
    import resource

    if what == "stream":
        streamed_covariance(generated(rows)).block_until_ready()
    elif what == "sum":
        total = CovarianceSum(STREAMED_WIDTH)
        for part in generated(rows):
            total.update(part)
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "features.npy"
            with file.open("wb") as written:
                form = {"descr": "<f4", "fortran_order": False, "shape": (rows, STREAMED_WIDTH)}
                np.lib.format.write_array_header_1_0(written, form)
                for part in generated(rows):
                    written.write(part.tobytes())
            covariance_of_files([file], Path(folder) / "state")
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says there includes the memory of the process that has started this one
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def memory() -> list[list[Any]]:
    """Prints MiB by number of rows."""
    cells = []
    for what, sizes in {"stream": (10_000, 1_000_000), "sum": (10_000, 1_000_000), "files": (10_000, 200_000)}.items():
        for rows in sizes:
            program = f"from benchmarks.covariances import hold; print(hold({what!r}, {rows}))"
            done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
            cells.append([what, rows, int(done.stdout)])
    print_table(["what", "rows", "most memory, MiB"], cells, title=f"Memory, {STREAMED_WIDTH} features in float32")
    return cells


def main() -> None:
    """Prints the tables; with --out, also covariances.json and covariances.png."""
    asked = arguments(__doc__, rounds=7).parse_args()
    jax.config.update("jax_enable_x64", True)
    cases = {
        f"{title}, d = {d}, {np.dtype(dtype)}": (make(d, dtype), dtype)
        for dtype in (np.float64, np.float32)
        for d in WIDTHS
        for title, make in {
            "One covariance": lambda d, dtype: single(2000, d, dtype),
            "One covariance in parts": lambda d, dtype: streamed(10, 500, d, dtype),
        }.items()
    } | {
        "Covariances, digits' size": (stacked(90, 170, 64), np.float64),
        "Covariances, MNIST's width": (stacked(10, 1000, 784), np.float64),
        "Covariances in a compiled program": (compiled(10, 1000, 784), np.float64),
    }
    rows = {title: compare(calls, title, asked.rounds, dtype) for title, (calls, dtype) in cases.items()}
    everything = [row for part in rows.values() for row in part]
    record = {title: [row._asdict() for row in part] for title, part in rows.items()} | {"memory": memory()}
    save(asked.out, "covariances", record, dots(everything, title="Covariances; ratios to ours in each group"))


if __name__ == "__main__":
    main()
