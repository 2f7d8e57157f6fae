"""One contender of `benchmarks.house`, alone in a process: prints its seconds, and theta after the steps that are compared.

python -m benchmarks._house CONTENDER PAIR.npz STEPS BATCH [RELEASED_CODE]
"""

import gc
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

OURS_COLD, PYTORCH = "ours, cold", "eager PyTorch"
RELEASED, RELEASED_LOADER = "released code", "released code with its loader"

RATE, LAMBDA_PRIMARY, LAMBDA_HARMFUL, RIDGE = 5e-3, 100.0, 1e7, 1.0
"""Adam's rate, lambda_r1, lambda_r2 and lambda_reg of the released configuration."""

CHECKED_STEPS = 20
LOADER_PROCESSES = 4


class Contender(NamedTuple):
    """A whole run, and one on the first rows as the only batch, which returns theta; None if it is another method."""

    whole: Callable[[], Any]
    checked: Callable[[], Any] | None


def ours(problem: Path, steps: int, batch: int) -> Contender:
    """The library."""
    import jax
    import jax.numpy as jnp
    import optax

    from benchmarks._timing import blas_threads
    from cimm_jax import Task, TaskPair, immunize, methods

    jax.config.update("jax_enable_x64", True)
    blas_threads()(1)
    arrays = np.load(problem)
    pair = TaskPair(*(Task(*(jnp.asarray(arrays[f"{a}_{side}"]) for a in "xy")) for side in TaskPair._fields))
    method = methods.algorithm1(
        lambda_primary=LAMBDA_PRIMARY,
        lambda_harmful=LAMBDA_HARMFUL,
        optimizer=optax.adam(RATE),
        hessian=methods.HessianFrom.BATCH,
    )

    def checked():
        first = jax.tree.map(lambda leaf: leaf[:batch], pair)
        return immunize(method, first, steps=CHECKED_STEPS, record_every=CHECKED_STEPS).theta

    return Contender(lambda: immunize(method, pair, steps=steps, record_every=steps, batch_size=batch).theta, checked)


def pytorch(problem: Path, steps: int, batch: int) -> Contender:
    """The same equations in eager PyTorch, from the same start."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks._torch_step import Step, Weights, tensor

    arrays = np.load(problem)
    x_primary, y, x_harmful = (tensor(arrays[name]) for name in ("x_primary", "y_primary", "x_harmful"))
    theta, omega = start_of(problem)
    weights = Weights(LAMBDA_PRIMARY, LAMBDA_HARMFUL, RATE)
    generator = torch.Generator().manual_seed(0)

    def whole():
        step = Step(theta, omega, (x_primary, y, x_harmful), weights, small=False)
        for _ in range(steps):
            rows, others = (torch.randint(len(x), (batch,), generator=generator) for x in (x_primary, x_harmful))
            step.x_primary, step.y_primary, step.x_harmful = x_primary[rows], y[rows], x_harmful[others]
            step()

    def checked():
        step = Step(theta, omega, (x_primary[:batch], y[:batch], x_harmful[:batch]), weights, small=False)
        for _ in range(CHECKED_STEPS):
            step()
        return step.theta.detach().numpy()

    return Contender(whole, checked)


def released(problem: Path, steps: int, batch: int, folder: Path, *, loader: bool) -> Contender:
    """The released code's step in a loop over memory, or over its kind of loader."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks import _released
    from benchmarks._torch_step import tensor

    arrays = np.load(problem)
    x_primary, y, x_harmful = (tensor(arrays[name]) for name in ("x_primary", "y_primary", "x_harmful"))
    settings = _released.Settings(LAMBDA_PRIMARY, LAMBDA_HARMFUL, RIDGE, RATE, regression=True)
    step = _released.Step(_released.load(folder), *start_of(problem), settings)
    houses = torch.utils.data.TensorDataset(x_primary, y, x_harmful)
    epochs = -(-steps // (len(houses) // batch))

    def from_memory():
        for _ in range(epochs):
            order = torch.randperm(len(houses))
            for rows in order[: len(houses) // batch * batch].split(batch):
                step(x_primary[rows], y[rows], x_harmful[rows])

    def from_loader():
        batches = torch.utils.data.DataLoader(
            houses, batch_size=batch, shuffle=True, num_workers=LOADER_PROCESSES, drop_last=True
        )
        for _ in range(epochs):
            for x, targets, others in batches:
                step(x, targets, others)
                gc.collect()

    return Contender(from_loader if loader else from_memory, None)


def start_of(problem: Path) -> tuple[np.ndarray, np.ndarray]:
    """Theta and the head that `immunize` starts from with its default key, the head from the file.

    JAX must not be started here: the loader forks, and a fork of its threads would wait for ever.
    """
    omega = np.load(problem)["omega"]
    return np.eye(len(omega)), omega


def main() -> None:
    """Runs one contender."""
    warnings.simplefilter(
        "ignore"
    )  # of more loader processes than cores, and of forks where JAX is imported, not started
    name, problem, steps, batch, *folder = sys.argv[1:]
    settings = (Path(problem), int(steps), int(batch))
    if name == OURS_COLD:
        contender = ours(*settings)
    elif name == PYTORCH:
        contender = pytorch(*settings)
    else:
        contender = released(*settings, Path(folder[0]), loader=name == RELEASED_LOADER)
    if name != OURS_COLD:
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(1)
    start = time.perf_counter()
    result = contender.whole()
    getattr(result, "block_until_ready", lambda: None)()
    said: dict[str, Any] = {"seconds": time.perf_counter() - start}
    if contender.checked is not None:
        said["theta"] = np.asarray(contender.checked()).tolist()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
