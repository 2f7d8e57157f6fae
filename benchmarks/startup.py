"""What starting up costs: `import cimm_jax` against `import jax`, in turn, and `cimm --help`.

    python -m benchmarks.startup

Each import runs in a process of its own; the medians are compared. The answer checked: --help names every command.
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 7


def seconds_to_import(module: str) -> float:
    """Wall-clock seconds of importing a module in a new process, the start of Python itself left out."""
    program = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


def seconds_to_help() -> float:
    """Wall-clock seconds of `cimm --help`, as a whole process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "cimm_jax", "--help"], capture_output=True, text=True, check=True)
    elapsed = time.perf_counter() - start
    for command in ("immunize", "sweep"):
        if command not in done.stdout:
            raise SystemExit(f"cimm --help does not name {command}")
    return elapsed


def main() -> None:
    """Prints the medians and the ratio."""
    seconds_to_import("cimm_jax")  # warms the file cache and the bytecode
    rounds = [(seconds_to_import("jax"), seconds_to_import("cimm_jax"), seconds_to_help()) for _ in range(ROUNDS)]
    jax, ours, help_ = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"import jax       {jax:.3f} s")
    print(f"import cimm_jax  {ours:.3f} s   ratio {ours / jax:.2f}")
    print(f"cimm --help      {help_:.3f} s")


if __name__ == "__main__":
    main()
