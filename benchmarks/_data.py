"""Synthetic tasks of the sizes that the paper's have, for benchmarks that need no data folder."""

import jax.numpy as jnp
import numpy as np

from cimm_jax.tasks import Task, TaskPair


def features(rows: int, columns: int, *batch: int, seed: int = 0) -> np.ndarray:
    """Random features of scales 1 to 1e-3 and, as those of real data, of non-zero mean; shape (*batch, rows, columns)."""
    rng = np.random.default_rng(seed)
    return (0.3 + rng.standard_normal((*batch, rows, columns))) * np.geomspace(1, 1e-3, columns)


def pair(rows: int, columns: int, seed: int = 0) -> TaskPair:
    """Two tasks with scales in opposite orders, targets -1 and +1."""
    rng = np.random.default_rng((seed, 1))
    x_primary, x_harmful = features(rows, columns, seed=seed), features(rows, columns, seed=seed + 1)[:, ::-1]
    return TaskPair(*(Task(jnp.asarray(x), jnp.asarray(rng.choice([-1.0, 1.0], rows))) for x in (x_primary, x_harmful)))
