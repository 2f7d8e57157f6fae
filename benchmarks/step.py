"""One step of Algorithm 1 with minibatch Hessians in float64 on the CPU, by different programs, in turn in one run.

    python -m benchmarks.step [--d 784] [--batch 64] [--rounds 15] [--released-code DIR] [--out DIR]

* ours: `methods.algorithm1(hessian=HessianFrom.BATCH)` with Adam, jit-compiled, its state donated as in `immunize`;
* six matrix products: what a step cannot do without if both tasks are treated one after the other: F = X theta, theta F^T and
  an outer product of rank B for each;
* ours, naive: the same step by automatic differentiation through the eigenvalues of the (d, d) Hessians;
* eager PyTorch: the naive step in PyTorch; and the same with our algebra, which separates the algebra from the compiler
  (both with `pip install -e '.[bench]'`);
* the released code, from a checkout of it: its layer, its condition number and Adam, without its loader and its logging.

Linear algebra and PyTorch get one thread or all, whichever is faster for the contender in a trial; JAX's products use all.
All start at the same theta. What must agree: theta after the step, except for the released code, whose step is another one
by design; there its two regularizers are compared with ours under its own rule (`ReleasedCode`).
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks._data import pair as synthetic_pair
from benchmarks._pictures import dots
from benchmarks._timing import (
    against,
    arguments,
    blas_threads,
    check_agreement,
    in_turn,
    print_rows,
    relative_difference,
    save,
    with_best_threads,
)
from cimm_jax import methods
from cimm_jax.errors import InputError
from cimm_jax.numerics.spectra import ReleasedCode, condition_number
from cimm_jax.tasks import TaskPair

RATE = 1e-3
RELEASED_WEIGHTS = (1.0, 5e7, 1e-7)
"""lambda_r1, lambda_r2 and lambda_reg of the released configuration for MNIST."""

TOLERANCE = 1e-6
SHARE = 0.2
"""Seconds that a short contender is repeated for in each round."""

OURS = "ours"


class Start(NamedTuple):
    """Where every contender starts: the method, its state, and the batch."""

    method: methods.Method
    state: Any
    batch: TaskPair


class Contender(NamedTuple):
    """A call that makes one step, and how far it is from ours."""

    call: Callable[[], Any]
    difference: float


def begin(d: int, rows: int) -> Start:
    """Balanced weights, and a theta that is not diagonal."""
    batch = synthetic_pair(rows, d)
    balanced = methods.algorithm1(hessian=methods.HessianFrom.BATCH).init(jax.random.key(0), batch).weights
    primary, harmful = (float(weight) for weight in balanced)
    method = methods.algorithm1(
        lambda_primary=primary,
        lambda_harmful=harmful,
        optimizer=optax.adam(RATE),
        hessian=methods.HessianFrom.BATCH,
    )
    noise = 0.01 * jax.random.normal(jax.random.key(1), (d, d), jnp.float64)
    state = method.init(jax.random.key(0), batch)
    return Start(method, state._replace(theta=state.theta + noise), batch)


class Stateful:
    """A compiled step whose state is handed on from call to call, as in a training loop."""

    def __init__(self, step: Callable[[Any], Any], state: Any):
        self._step = jax.jit(step, donate_argnums=0)
        self.state = jax.tree.map(jnp.array, state)  # a copy: it is donated

    def __call__(self) -> None:
        """One step, finished."""
        self.state = jax.block_until_ready(self._step(self.state))


def ours(start: Start) -> Stateful:
    """The library's step."""
    return Stateful(lambda state: start.method.step(state, start.batch)[0], start.state)


def six_products(start: Start) -> Callable[[], list[jax.Array]]:
    """The products alone."""

    @jax.jit
    def products(theta, batch: TaskPair):
        matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
        f_primary, f_harmful = (matmul(task.x, theta) for task in batch)
        return [matmul(matmul(theta, f.T), f) for f in (f_primary, f_harmful)]

    return lambda: products(start.state.theta, start.batch)


def products_of_numpy(start: Start) -> list[np.ndarray]:
    """What `six_products` must return."""
    theta = np.asarray(start.state.theta)
    return [theta @ (x @ theta).T @ (x @ theta) for x in (np.asarray(task.x) for task in start.batch)]


def naive(start: Start) -> Stateful:
    """The step as one would write it down from Algorithm 1: gradients in H by automatic differentiation."""
    optimizer = optax.adam(RATE)
    (x_primary, y), (x_harmful, _) = start.batch

    def loss(params):
        theta, omega = params
        return jnp.mean((x_primary @ theta @ omega - y) ** 2) / 2

    def well(h):
        sigma = jnp.linalg.eigvalsh(h)
        return sigma[-1] ** 2 / 2 - jnp.sum(sigma**2) / (2 * len(sigma))

    def ill(h):
        sigma = jnp.linalg.eigvalsh(h)[-len(x_harmful) :]
        return 1 / (jnp.sum(sigma**2) / (2 * len(sigma)) - sigma[0] ** 2 / 2)

    def step(state):
        params, optimizer_state = state
        theta = params[0]
        g_theta, g_omega = jax.grad(loss)(params)
        for weight, regularizer, x in zip(start.state.weights, (well, ill), (x_primary, x_harmful), strict=True):
            f = x @ theta
            g_theta = g_theta + weight * 2 * theta @ jax.grad(regularizer)(f.T @ f)  # K^{-1} cancels K
        updates, optimizer_state = optimizer.update((g_theta, g_omega), optimizer_state, params)
        return optax.apply_updates(params, updates), optimizer_state

    params = (start.state.theta, start.state.omega)
    return Stateful(step, (params, optimizer.init(params)))


def contenders(start: Start, released_code: Path | None) -> dict[str, Contender]:
    """All there are, each one step on already, which is compared with ours."""
    own, products, written_naively = ours(start), six_products(start), naive(start)
    own()
    written_naively()
    theta = np.asarray(own.state.theta)
    moved = theta - np.asarray(start.state.theta)

    def apart(other) -> float:
        return relative_difference(np.asarray(other) - np.asarray(start.state.theta), moved)

    blas, naive_difference = blas_threads(), apart(written_naively.state[0][0])
    found = {
        OURS: Contender(with_best_threads(own, blas), float("nan")),
        "six matrix products": Contender(products, max(map(relative_difference, products(), products_of_numpy(start)))),
        "ours, naive": Contender(with_best_threads(written_naively, blas), naive_difference),
    }
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError:
        print("PyTorch is missing, so its rows are left out: pip install -e '.[bench]'", file=sys.stderr)
        return found
    from benchmarks._torch_step import Step, Weights

    primary, harmful = (float(weight) for weight in start.state.weights)
    weights = Weights(primary, harmful, RATE)
    batch = (start.batch.primary.x, start.batch.primary.y, start.batch.harmful.x)
    for name, small in (("eager PyTorch", False), ("eager PyTorch, our algebra", True)):
        step = Step(start.state.theta, start.state.omega, batch, weights, small=small)
        step()
        difference = apart(step.theta.detach())
        found[name] = Contender(with_best_threads(step, torch.set_num_threads), difference)
    if released_code is not None:
        found["released code"] = released(start, released_code)
    print(f"PyTorch {torch.__version__}")
    return found


def released(start: Start, folder: Path) -> Contender:
    """The released code's step, and how far its regularizers are from ours under its rule."""
    import torch  # pyright: ignore[reportMissingImports]

    from benchmarks import _released
    from benchmarks._torch_step import tensor

    settings = _released.Settings(*RELEASED_WEIGHTS, RATE, regression=False)
    step = _released.Step(_released.load(folder), start.state.theta, start.state.omega, settings)
    (x_primary, y), (x_harmful, _) = start.batch
    batch = [tensor(part) for part in (x_primary, (y + 1) / 2, x_harmful)]
    theirs = [value.item() for value in step.regularizers(batch[0], batch[2])]
    s_primary, s_harmful = (f.T @ f for f in (x_primary @ start.state.theta, x_harmful @ start.state.theta))
    d = len(s_primary)
    expected = [
        condition_number(s_primary, ReleasedCode()).sigma_max ** 2 / 2 - jnp.sum(s_primary**2) / (2 * d),
        1 / (jnp.sum(s_harmful**2) / (2 * d) - condition_number(s_harmful, ReleasedCode()).sigma_min ** 2 / 2),
    ]
    apart = max(relative_difference(their, our) for their, our in zip(theirs, expected, strict=True))
    return Contender(with_best_threads(lambda: step(*batch), torch.set_num_threads), apart)


def main() -> None:
    """Prints the table; with --out, also step.json and step.png."""
    parser = arguments(__doc__, d=784, batch=64, rounds=15)
    parser.add_argument("--released-code", type=Path, help="checkout of the paper's released code")
    asked = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    try:
        found = contenders(begin(asked.d, asked.batch), asked.released_code)
    except InputError as error:
        raise SystemExit(f"benchmarks.step: {error}") from error
    timed = in_turn({name: contender.call for name, contender in found.items()}, asked.rounds, share=SHARE)
    rows = against(OURS, timed, {name: contender.difference for name, contender in found.items()})
    title = f"One step of Algorithm 1, d = {asked.d}, batch {asked.batch}, float64"
    print_rows(rows, title=title)
    print(
        "answers: change of theta in the step, relative to its largest entry; released code: its regularizers by its rule"
    )
    check_agreement(rows, TOLERANCE)
    record = {"d": asked.d, "batch": asked.batch, "rounds": asked.rounds, "rows": [row._asdict() for row in rows]}
    save(asked.out, "step", record, dots(rows, title=title))


if __name__ == "__main__":
    main()
