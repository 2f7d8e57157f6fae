"""House Prices end to end: a whole immunization, training loop included, against the released training loop in eager PyTorch.

    python -m benchmarks.house [--steps 300] [--batch 64] [--rounds 3] [--data-dir DIR] [--released-code DIR] [--out DIR]

Float64 on the CPU; without a folder, random tasks of the same shape (200 rows, 79 features).

* ours: `immunize` with Algorithm 1, minibatch Hessians and Adam, its batches drawn anew at every step. Warm is a further call;
  cold is the first call of a process, compilation included;
* eager PyTorch: the same equations, autograd through the eigenvalues, batches drawn by PyTorch;
* the released code: as many steps of its layer, its condition number and Adam, batches from memory;
* the released code with its loader: what its loop also does, namely four loader processes started anew for every epoch of three
  batches, and a garbage collection at every step. Lightning, logging and checkpoints are still left out.

The PyTorch rows need `pip install -e '.[bench]'`. All get one thread for their linear algebra, with which they are fastest at
this size. Every contender but "warm" runs in a process of its own (`benchmarks._house`), which measures itself without its
imports. Answers: on the first rows as the only batch, ours and eager PyTorch must arrive at the same theta; the released code's
regularizers are compared with ours by `benchmarks.step`.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

from benchmarks._data import pair as synthetic_pair
from benchmarks._house import CHECKED_STEPS, OURS_COLD, PYTORCH, RELEASED, RELEASED_LOADER, ours
from benchmarks._pictures import dots
from benchmarks._timing import (
    Timed,
    against,
    arguments,
    check_agreement,
    print_rows,
    relative_difference,
    save,
    seconds,
)
from cimm_jax.data import load_pair
from cimm_jax.errors import InputError
from cimm_jax.tasks import Task, TaskPair

ROWS, FEATURES = 200, 79
WARM = "ours, warm"
TOLERANCE = 1e-6


def save_problem(path: Path, pair: TaskPair) -> int:
    """Writes the pair and the head that `immunize` starts from, for programs without JAX; returns the number of features."""
    features = pair.primary.x.shape[1]
    omega = jax.random.normal(jax.random.split(jax.random.key(0))[0], (features,), float) / np.sqrt(features)
    arrays = {
        f"{name}_{side}": getattr(getattr(pair, side), name) for side in TaskPair._fields for name in Task._fields
    }
    np.savez(path, omega=np.asarray(omega), **{name: np.asarray(array) for name, array in arrays.items()})  # pyright: ignore
    return features


def elsewhere(contender: str, problem: Path, steps: int, batch: int, released_code: Path | None) -> dict:
    """What the program says that runs a contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks._house", contender, str(problem), str(steps), str(batch)]
    command += [] if released_code is None else [str(released_code)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"benchmarks.house: {contender} failed")
    return json.loads(done.stdout.splitlines()[-1])


def contenders(released_code: Path | None) -> list[str]:
    """Those in processes of their own."""
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is missing, so its rows are left out: pip install -e '.[bench]'", file=sys.stderr)
        return [OURS_COLD]
    return [OURS_COLD, PYTORCH, *([] if released_code is None else [RELEASED, RELEASED_LOADER])]


def main() -> None:
    """Prints the table; with --out, also house.json and house.png."""
    parser = arguments(__doc__, steps=300, batch=64, rounds=3)
    parser.add_argument("--data-dir", type=Path, help="folder with the House Prices tables")
    parser.add_argument("--released-code", type=Path, help="checkout of the paper's released code")
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    try:
        pair = (
            synthetic_pair(ROWS, FEATURES)
            if asked.data_dir is None
            else load_pair("house_prices", data_dir=asked.data_dir).train
        )
    except InputError as error:
        raise SystemExit(f"benchmarks.house: {error}") from error
    with tempfile.TemporaryDirectory() as folder:
        problem = Path(folder) / "pair.npz"
        features = save_problem(problem, pair)
        run = ours(problem, asked.steps, asked.batch)
        seconds(run.whole)
        assert run.checked is not None
        expected = np.asarray(run.checked())
        moved = expected - np.eye(len(expected))
        times: dict[str, list[float]] = {WARM: []}
        differences = {}
        for _ in range(asked.rounds):
            times[WARM].append(seconds(run.whole))
            for name in contenders(asked.released_code):
                said = elsewhere(name, problem, asked.steps, asked.batch, asked.released_code)
                times.setdefault(name, []).append(said["seconds"])
                if "theta" in said:
                    differences[name] = relative_difference(np.asarray(said["theta"]) - np.eye(len(expected)), moved)
    rows = against(WARM, {name: Timed(tuple(values)) for name, values in times.items()}, differences)
    title = f"House Prices end to end, {asked.steps} steps, batch {asked.batch}, {features} features"
    print_rows(rows, title=title)
    print(f"answers: change of theta in {CHECKED_STEPS} steps on one batch, relative to its largest entry")
    check_agreement(rows, TOLERANCE)
    save(asked.out, "house", {"steps": asked.steps, "rows": [row._asdict() for row in rows]}, dots(rows, title=title))


if __name__ == "__main__":
    main()
