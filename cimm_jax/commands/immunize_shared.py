"""What immunizations on tasks and behind networks share: curves of what an attacker keeps, and how results are told."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from cimm_jax.cli import Immunize
from cimm_jax.files import write_json
from cimm_jax.numerics.convergence import excess_curve
from cimm_jax.numerics.spectra import product_amplification
from cimm_jax.report.tables import print_table
from cimm_jax.tasks import TaskPair

NO_COMPARISON = (
    "Numbers under different policies are not comparable; ReleasedCode is shown to compare with published figures. The share "
    "of the limit is log RIR over the log of the largest RIR of any linear extractor, both in the primary's range."
)
CURVE_STEPS = 1000
SHOWN_STEPS = (10, 100, 1000)


def deliver(
    command: Immunize, folder: Path, results: Mapping[str, Any], tell: Callable[[], None], *, beside: str
) -> None:
    """Writes results.json, and prints it with --json, or else what `tell` prints and which files there are.

    Args:
      command: the settings.
      folder: of the run.
      results: what the file holds.
      tell: prints the tables.
      beside: the other files, in words.
    """
    written = write_json(folder / "results.json", results)
    if command.json:
        print(written.read_text(), end="")
        return
    tell()
    print(f"\nWrote results.json, {beside} to {folder}")


def excess_curves(theta: jax.Array, pair: TaskPair) -> dict[str, np.ndarray]:
    """Excess loss left after 0, 1, ... steps of exact line search on each task, before and after; {} without targets."""
    curves = {}
    for name, (x, y) in pair._asdict().items():
        if y is None:
            continue
        features = x @ theta
        amplification = product_amplification(x, theta, features)
        curves[f"{name} undefended"] = np.asarray(excess_curve(x, y, CURVE_STEPS))
        curves[f"{name} immunized"] = np.asarray(excess_curve(features, y, CURVE_STEPS, amplification))
    return curves


def print_excess_left(curves: Mapping[str, Mapping[str, np.ndarray]], *, note: str = "") -> None:
    """The curves at three steps, by rows and name."""
    rows = [
        [part, *name.split(), *(float(left[s]) for s in SHOWN_STEPS)]
        for part, named in curves.items()
        for name, left in named.items()
    ]
    print_table(
        ["rows", "task", "extractor", *(f"after {s} steps" for s in SHOWN_STEPS)],
        rows,
        title=f"excess loss that gradient descent with exact line search leaves (1 = nothing learned){note}",
    )


def print_verdicts(console: Console, verdicts: Mapping[str, Mapping[str, Any]]) -> None:
    """Definition 3.1 and its reasons, by rows."""
    for part, verdict in verdicts.items():
        outcome = "immunized" if verdict["immunized"] else "NOT immunized"
        console.print(f"\nVerdict on {part} rows, Definition 3.1 under PseudoInverse: {outcome}")
        for reason in verdict["reasons"]:
            console.print(f"  {reason}", markup=False)
