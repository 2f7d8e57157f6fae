"""The extremes of large spectra against all singular values, in turn in one run, with their answers compared. float64.

    python -m benchmarks.matrix_free [--rounds 1] [--features 4096] [--out DIR]

* kappa(F^T F) of features with a quarter more rows than columns, scales from 1 to 1e-3: `solver="matrix_free"` against "dense";
* the same from products alone, v -> X^T (X v), of features that a few hundred products resolve;
* the extremes of the pencil of two such tasks, against all eigenvalues of the pencil of their covariances. At a quarter of the
  size, where the dense one takes a moment.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._data import features
from benchmarks._pictures import dots
from benchmarks._timing import Timed, against, arguments, check_agreement, print_rows, save, seconds
from cimm_jax.numerics.matrix_free import operator_extremes, pencil_extremes
from cimm_jax.numerics.spectra import feature_condition_number

TOLERANCE = 1e-3


def gram(v: jax.Array, x: jax.Array) -> jax.Array:
    """X^T (X v)."""
    return (x @ v) @ x


def matrix(d: int) -> dict[str, Callable]:
    """The condition number of features as wide as that."""
    f = jnp.asarray(features(d + d // 4, d))
    return {
        f"d = {d}: extremes alone": lambda: feature_condition_number(f, solver="matrix_free").kappa,
        f"d = {d}: all singular values": lambda: feature_condition_number(f, solver="dense").kappa,
    }


def products(d: int) -> dict[str, Callable]:
    """The same of features that are better conditioned, from products alone."""
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4 * d, d)))
    return {
        f"d = {d}: products alone": lambda: np.float64(operator_extremes(gram, (x,), d).kappa),
        f"d = {d}: all singular values, better conditioned": lambda: feature_condition_number(x, solver="dense").kappa,
    }


def pencil(d: int) -> dict[str, Callable]:
    """Both ends of a pencil."""
    import scipy.linalg

    x_harmful, x_primary = features(2 * d, d, seed=1)[:, ::-1].copy(), features(2 * d, d)
    k_harmful, k_primary = (x.T @ x for x in (x_harmful, x_primary))

    def both() -> np.ndarray:
        extremes = pencil_extremes(x_harmful, x_primary)
        return np.array([extremes.smallest.value, extremes.largest.value])

    return {
        f"d = {d}, pencil: extremes alone": both,
        f"d = {d}, pencil: all, of the covariances": lambda: scipy.linalg.eigh(k_harmful, k_primary, eigvals_only=True)[
            [0, -1]
        ],
    }


def kept(found: dict[str, np.ndarray], name: str, call: Callable) -> None:
    """Keeps the answer of a call, which is too long to be made once more for it."""
    found[name] = np.asarray(call())


def once_in_turn(calls: dict[str, Callable], rounds: int) -> dict[str, Timed]:
    """Times all calls in turn, with their compilation, since a call that is thrown away would take a minute."""
    times = [{name: seconds(call) for name, call in calls.items()} for _ in range(rounds)]
    return {name: Timed(tuple(of[name] for of in times)) for name in calls}


def main() -> None:
    """Prints two rows per comparison; with --out, also matrix_free.json and matrix_free.png."""
    asked = arguments(__doc__, rounds=1, features=4096).parse_args()
    jax.config.update("jax_enable_x64", True)
    everything = []
    for make, d in ((matrix, asked.features), (products, asked.features // 4), (pencil, asked.features // 4)):
        calls = make(max(d, 2))
        fast, plain = calls
        found: dict[str, np.ndarray] = {}
        timed = once_in_turn({name: partial(kept, found, name, call) for name, call in calls.items()}, asked.rounds)
        difference = float(np.max(np.abs(found[fast] / found[plain] - 1)))
        rows = against(fast, timed, {plain: difference})
        print_rows(rows, title=f"{fast.partition(':')[0]}")
        everything += rows
    check_agreement(everything, TOLERANCE)
    record = {"rows": [row._asdict() for row in everything]}
    save(asked.out, "matrix_free", record, dots(everything, title="Extremes; ratios to the fast path of each pair"))


if __name__ == "__main__":
    main()
