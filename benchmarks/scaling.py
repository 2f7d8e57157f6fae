"""Seconds by devices, rows and features, and a cost model that predicts them; from it, what more rows on accelerators take.

    python -m benchmarks.scaling [--devices 1 2 8] [--rounds 3] [--out DIR]

Row-sharded covariances, tall-skinny QR trees, dense spectra and matrix-free passes (`_cost_model`), float32 and float64, on as
many devices as asked: on a CPU they are made by force, and share its cores, so that nothing gets faster with more of them; what
is seen there is what spreading costs. Each number of devices is a process of its own. Checked: every answer is that of NumPy.

The model's rates are fitted to the half of the shapes that is marked so, and predict the others. On GPUs and TPUs the same
command measures them (no device is forced where there are accelerators).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks._cost_model import Machine, Shape, bytes_held, seconds
from benchmarks._timing import positive
from cimm_jax.files import output_folder, write_json
from cimm_jax.views.render.terminal import print_table

TOLERANCE = {4: 1e-4, 8: 1e-11}
"""Relative, by bytes of a number."""


@dataclass(frozen=True)
class Case:
    """An operation on a shape.

    Attributes:
      operation: of `_cost_model.OPERATIONS`.
      rows: N.
      width: d.
      fitted: whether the model's rates are fitted to it, or it is predicted.
    """

    operation: str
    rows: int
    width: int
    fitted: bool


CASES = (
    Case("covariance", 65536, 512, True),
    Case("covariance", 32768, 1024, False),
    Case("covariance", 262144, 256, False),
    Case("factor", 32768, 512, True),
    Case("factor", 65536, 256, False),
    Case("factor", 65536, 512, False),
    Case("spectrum", 1024, 1024, True),
    Case("spectrum", 2048, 2048, False),
    Case("pass", 65536, 1024, True),
    Case("pass", 262144, 512, False),
)


class Measured(NamedTuple):
    """One case on so many devices.

    Attributes:
      case: which.
      devices: how many.
      entry: bytes of a number.
      took: seconds, of the fastest round: whoever else works on the machine only makes it slower.
      difference: of the answer to NumPy's, relative.
    """

    case: Case
    devices: int
    entry: int
    took: float
    difference: float


def measure(devices: int, rounds: int) -> list[dict[str, Any]]:
    """All cases in this process, on the first so many of its devices; plain values."""
    import jax

    jax.config.update("jax_enable_x64", True)
    if len(jax.devices()) < devices:
        raise SystemExit(f"--devices: {devices} asked for, there are {len(jax.devices())}")
    measured = []
    for case in CASES:
        if case.operation == "spectrum" and devices > 1:
            continue
        given, answer = _problem(case)
        for dtype in (np.float32, np.float64):
            run = _prepared(case, [array.astype(dtype) for array in given], devices)
            found = np.asarray(run(), np.float64)
            found = found.T @ found if case.operation == "factor" else found
            difference = float(np.abs(found - answer).max() / np.abs(answer).max())
            took = []
            for _ in range(rounds):
                begun = time.perf_counter()
                jax.block_until_ready(run())
                took.append(time.perf_counter() - begun)
            entry = np.dtype(dtype).itemsize
            measured.append(Measured(case, devices, entry, min(took), difference)._replace(case=vars(case))._asdict())
    return measured


def _problem(case: Case) -> tuple[list[np.ndarray], np.ndarray]:
    """What the operation is given, exact in float32, and what NumPy says it gives: of a factor, its square."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.rows, case.width), np.float32)
    if case.operation == "spectrum":
        symmetric = x + x.T
        return [symmetric], np.linalg.eigvalsh(symmetric.astype(np.float64))
    exact = x.astype(np.float64)
    if case.operation == "pass":
        v = rng.standard_normal((case.width, 1), np.float32)
        return [x, v], exact.T @ (exact @ v)
    return [x], exact.T @ exact


def _prepared(case: Case, given: Sequence[np.ndarray], devices: int) -> Callable[[], Any]:
    """The operation on what it is given, which lies on the devices."""
    import jax
    import jax.numpy as jnp

    from cimm_jax.numerics.decompositions import eigh, gram_factor
    from cimm_jax.numerics.hessian import covariance
    from cimm_jax.numerics.meshes import spread_rows
    from cimm_jax.numerics.products import product
    from cimm_jax.numerics.tall_qr import few_rows

    x, *others = given
    automatic = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((devices,), ("data",), axis_types=automatic, devices=jax.devices()[:devices])
    arrays = [spread_rows(x, mesh) if devices > 1 else jnp.asarray(x), *map(jnp.asarray, others)]
    operation = {
        "covariance": jax.jit(covariance),
        "factor": few_rows if devices > 1 else jax.jit(gram_factor),
        "spectrum": jax.jit(lambda s: eigh(s)[0]),
        "pass": jax.jit(lambda x, v: product(x.T, product(x, v))),
    }[case.operation]
    return lambda: operation(*arrays)


def in_processes(counts: Sequence[int], rounds: int) -> list[Measured]:
    """`measure` for each number of devices in a process of its own."""
    found = []
    for devices in counts:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
        words = [sys.executable, "-m", "benchmarks.scaling", "--measure", str(devices), "--rounds", str(rounds)]
        done = subprocess.run(
            words, check=False, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{devices} devices: {done.stderr[-2000:]}")
        said = json.loads(done.stdout.splitlines()[-1])
        found += [Measured(**{**one, "case": Case(**one["case"])}) for one in said["measured"]]
        print(f"{devices} devices: {said['what']}", file=sys.stderr)
    return found


def fitted(measured: Sequence[Measured], entry: int, *, shared: bool) -> Machine:
    """Rates that give the fitted cases their seconds: of one device what it computes, of the most devices what travels."""
    most = max(one.devices for one in measured)

    def took(operation: str, devices: int) -> tuple[Shape, float]:
        (one,) = (
            one
            for one in measured
            if one.case.fitted and (one.case.operation, one.devices, one.entry) == (operation, devices, entry)
        )
        return Shape(one.case.rows, one.case.width, devices, entry), one.took

    never = float("inf")
    machine = Machine(never, never, never, never, never, 0.0, shared=shared)
    for operation, rate in (
        ("pass", "memory"),
        ("covariance", "product"),
        ("factor", "factor"),
        ("spectrum", "spectrum"),
    ):
        shape, spent = took(operation, 1)
        rest = seconds(operation, shape, machine)
        work = seconds(operation, shape, machine._replace(**{rate: 1.0})) - rest
        machine = machine._replace(**{rate: work / (spent - rest)})
    if most == 1:
        return machine
    shape, spent = took("pass", most)
    latency = max(spent - seconds("pass", shape, machine), 0.0)
    shape, spent = took("covariance", most)
    travelled = seconds("covariance", shape, machine._replace(product=float("inf"), memory=float("inf"), link=1.0))
    left = spent - latency - seconds("covariance", shape, machine)
    return machine._replace(latency=latency, link=travelled / left if left > 0 else float("inf"))


def table(measured: Sequence[Measured], machines: dict[int, Machine]) -> None:
    """Prints what was measured and what the model says of it."""
    rows, ratios = [], []
    for one in measured:
        predicted = seconds(
            one.case.operation, Shape(one.case.rows, one.case.width, one.devices, one.entry), machines[one.entry]
        )
        if not one.case.fitted:
            ratios.append(predicted / one.took)
        rows.append(
            [
                one.case.operation,
                f"{one.case.rows} x {one.case.width}",
                f"float{8 * one.entry}",
                one.devices,
                one.took,
                predicted,
                "fitted" if one.case.fitted else f"{predicted / one.took:.2f}",
                f"{one.difference:.0e}",
            ]
        )
    columns = ["operation", "shape", "dtype", "devices", "measured, s", "model, s", "ratio", "differs from NumPy by"]
    print_table(columns, rows, title="Measured, and by the model")
    within = np.mean(np.abs(np.log(ratios)) <= np.log(1.3))
    print(
        f"{within:.0%} of the {len(ratios)} figures that were not fitted are within 30 %, the worst at {_worst(ratios):.2f}"
    )


def _worst(ratios: Sequence[float]) -> float:
    return max(ratios, key=lambda ratio: abs(np.log(ratio)))


ACCELERATORS = {
    # Makers' figures of products in float32 (on a TPU: six of bfloat16), memory and links, at 60 %; QR and eigenproblems at a
    # tenth and a hundredth of the products' rate.
    "H100 SXM": Machine(0.6 * 67e12, 0.06 * 67e12, 0.006 * 67e12, 0.6 * 3.35e12, 0.6 * 50e9, 2e-5),
    "TPU v5p": Machine(0.6 * 76e12, 0.06 * 76e12, 0.006 * 76e12, 0.6 * 2.77e12, 0.6 * 100e9, 1e-5),
}
"""What the extrapolation takes for them; nothing here was measured on one."""

PLANS = (
    ("covariance", 10**9, 4096),
    ("factor", 10**9, 4096),
    ("spectrum", 4096, 4096),
    ("covariance", 10**9, 8192),
    ("spectrum", 8192, 8192),
)
CHUNK = 65536
"""Rows that a device holds at a time where it streams."""


def extrapolate() -> None:
    """Prints what the model says of accelerators."""
    rows = []
    for name, machine in ACCELERATORS.items():
        for operation, count, width in PLANS:
            shapes = [Shape(count, width, devices, 4) for devices in (8, 64, 512)]
            held = bytes_held(shapes[0], chunk=CHUNK if count > width else width)
            rows.append(
                [
                    name,
                    operation,
                    f"{count:.0e} x {width}",
                    *(seconds(operation, s, machine) for s in shapes),
                    held / 2**30,
                ]
            )
    columns = ["device", "operation", "shape", "8 devices, s", "64", "512", "GiB a device, streamed"]
    print_table(columns, rows, title="By the model, from makers' figures; float32, reading from storage left out")


def main() -> None:
    """Prints the tables; with --out, also scaling.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=positive, nargs="+", default=[1, 2, 8])
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--out", type=Path, help="folder for a JSON file")
    parser.add_argument("--measure", type=positive, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        import jax

        found = measure(asked.measure, asked.rounds)
        print(json.dumps({"what": f"{jax.devices()[0].device_kind}", "measured": found}))
        return
    counts = sorted({1, *asked.devices})
    measured = in_processes(counts, asked.rounds)
    for one in measured:
        if one.difference > TOLERANCE[one.entry]:
            raise SystemExit(
                f"{one.case.operation} on {one.devices} devices differs from NumPy by {one.difference:.0e}"
            )
    import jax

    shared = jax.default_backend() == "cpu"
    machines = {entry: fitted(measured, entry, shared=shared) for entry in TOLERANCE}
    table(measured, machines)
    for entry, machine in machines.items():
        rates = ", ".join(f"{key} {value:.2g}" for key, value in machine._asdict().items() if key != "shared")
        print(f"float{8 * entry}: {rates}")
    extrapolate()
    if asked.out is not None:
        record = {
            "measured": [one._replace(case=vars(one.case))._asdict() for one in measured],
            "machines": {f"float{8 * entry}": machine._asdict() for entry, machine in machines.items()},
        }
        print(f"Figures: {write_json(output_folder(asked.out) / 'scaling.json', record)}")


if __name__ == "__main__":
    main()
