"""The fast paths of the linear algebra against the plain ones, in turn in one run, with their answers compared.

    python -m benchmarks.eigenpairs [--rounds 7] [--out DIR]

Pairs of rows: all eigenpairs against the largest alone (Lanczos); a minibatch's eigenpairs from the large Gram matrix against
those from the small one; XLA's batched kernel against 90 pairs decomposed one after another. float64.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._data import features
from benchmarks._pictures import dots
from benchmarks._timing import against, arguments, check_agreement, in_turn, print_rows, relative_difference, save
from cimm_jax.numerics.decompositions import eigh
from cimm_jax.numerics.spectra import eigenpairs, feature_eigenpairs, largest_eigenpair

TOLERANCE = 1e-9


def main() -> None:
    """Prints two rows per comparison; with --out, also eigenpairs.json and eigenpairs.png."""
    asked = arguments(__doc__, rounds=7).parse_args()
    jax.config.update("jax_enable_x64", True)
    tall, batch, pairs = (jnp.asarray(x) for x in (features(2000, 784), features(64, 784), features(120, 64, 90)))
    cases = {
        "largest eigenpair, d = 784": (
            tall.T @ tall,
            {"Lanczos": lambda h: largest_eigenpair(h).sigma[None], "eigh": lambda h: eigenpairs(h).sigma[:1]},
        ),
        "64 rows of 784 features": (
            batch,
            {
                "small Gram matrix": lambda f: feature_eigenpairs(f).sigma,
                "large Gram matrix": lambda f: eigenpairs(f.T @ f).sigma[:64],
            },
        ),
        "90 matrices of d = 64": (
            pairs.mT @ pairs,
            {"loop": lambda h: eigh(h)[0], "batched kernel": lambda h: jnp.linalg.eigh(h)[0]},
        ),
    }
    everything = []
    for title, (argument, functions) in cases.items():
        calls = {f"{title}: {name}": partial(jax.jit(function), argument) for name, function in functions.items()}
        fast, plain = calls
        difference = relative_difference(calls[fast](), np.asarray(calls[plain]()))
        rows = against(fast, in_turn(calls, asked.rounds), {plain: difference})
        print_rows(rows, title=title)
        everything += rows
    check_agreement(everything, TOLERANCE)
    record = {"rows": [row._asdict() for row in everything]}
    save(
        asked.out, "eigenpairs", record, dots(everything, title="Linear algebra; ratios to the fast path of each pair")
    )


if __name__ == "__main__":
    main()
