"""Side-by-side timing: every contender in turn, round after round, so that whatever else the machine does hits all alike."""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cimm_jax.files import output_folder, write_json, write_whole
from cimm_jax.views.render.terminal import print_table

COLUMNS = ["what", "median, ms", "fastest, ms", "ratio of medians", "of fastest", "answers differ by"]


class Timed(NamedTuple):
    """Seconds of every call of one contender."""

    calls: tuple[float, ...]

    @property
    def median(self) -> float:
        """What a call takes on this machine as busy as it was."""
        return statistics.median(self.calls)

    @property
    def fastest(self) -> float:
        """What it takes with the least disturbance."""
        return min(self.calls)


class Row(NamedTuple):
    """One contender beside the reference: seconds, seconds over the reference's, and how far the answers are apart.

    Attributes:
      what: name.
      median: seconds.
      fastest: seconds.
      median_ratio: of this median to the reference's.
      fastest_ratio: the same of the fastest calls.
      difference: largest relative difference of the answers; NaN for the reference itself.
    """

    what: str
    median: float
    fastest: float
    median_ratio: float
    fastest_ratio: float
    difference: float


def seconds(call: Callable[[], Any]) -> float:
    """Of one call, its result waited for."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def with_best_threads(call: Callable[[], Any], set_threads: Callable[[int], Any]) -> Callable[[], Any]:
    """The call with one thread or with all, whichever is faster in a trial: on busy cores threads wait for each other."""
    trials = {}
    for threads in (1, os.cpu_count() or 1):
        set_threads(threads)
        seconds(call)
        trials[threads] = min(seconds(call) for _ in range(2))
    best = min(trials, key=trials.__getitem__)

    def limited():
        set_threads(best)
        return call()

    return limited


def blas_threads() -> Callable[[int], Any]:
    """A function that limits the threads of NumPy's linear algebra and of JAX's decompositions, which are SciPy's."""
    import scipy.linalg  # noqa: F401  (a library is only found once it is loaded)
    from threadpoolctl import ThreadpoolController

    controller = ThreadpoolController()
    return lambda threads: controller.limit(limits=threads, user_api="blas")


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int, *, share: float = 0.0) -> dict[str, Timed]:
    """Times all calls in turn, after one round that is thrown away.

    Args:
      calls: by name.
      rounds: how many.
      share: seconds for which a short call is repeated in each round, so that there are more of it to take the median of.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        seconds(call)
    for _ in range(rounds):
        for name, call in calls.items():
            spent = 0.0
            while not spent or spent < share:
                times[name].append(seconds(call))
                spent += times[name][-1]
    return {name: Timed(tuple(values)) for name, values in times.items()}


def against(reference: str, timed: Mapping[str, Timed], differences: Mapping[str, float]) -> list[Row]:
    """One row per contender, in order."""
    base = timed[reference]
    return [
        Row(
            name,
            found.median,
            found.fastest,
            found.median / base.median,
            found.fastest / base.fastest,
            differences.get(name, float("nan")),
        )
        for name, found in timed.items()
    ]


def print_rows(rows: Sequence[Row], *, title: str) -> None:
    """The table of ratios."""
    cells = [
        [r.what, 1e3 * r.median, 1e3 * r.fastest, r.median_ratio, r.fastest_ratio, _difference(r.difference)]
        for r in rows
    ]
    print_table(COLUMNS, cells, title=title)


def _difference(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.0e}"


def check_agreement(rows: Sequence[Row], tolerance: float) -> None:
    """Ends the program with a message if some answer differs by more."""
    for row in rows:
        if row.difference > tolerance:
            raise SystemExit(f"{row.what}: the answers differ by {row.difference:.1e}, allowed are {tolerance:.0e}")


def relative_difference(found: Any, expected: Any) -> float:
    """Largest difference over the largest entry."""
    found, expected = np.asarray(found), np.asarray(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def arguments(doc: str | None, **defaults: int) -> argparse.ArgumentParser:
    """A parser with `--out` and one whole number of at least 1 for each default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=positive, default=value, help=f"default {value}")
    parser.add_argument("--out", type=Path, help="folder for a JSON file and a picture")
    return parser


def positive(text: str) -> int:
    """A whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def save(out: Path | None, name: str, record: Mapping[str, Any], picture: bytes) -> None:
    """Writes NAME.json and NAME.png, if a folder was given."""
    if out is None:
        return
    folder = output_folder(out)
    print(f"\nFigures: {write_json(folder / f'{name}.json', record)}")
    print(f"Picture: {write_whole(folder / f'{name}.png', picture)}")
