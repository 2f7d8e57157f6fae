"""A small pair of tasks whose features are scaled in opposite orders, so that it can be immunized."""

import jax.numpy as jnp
import numpy as np

from cimm_jax import Task, TaskPair

D = 6


def make_pair(seed=0, rows=40, classes=None):
    rng = np.random.default_rng(seed)
    scales = np.geomspace(1, 10, D)
    targets = (rows,) if classes is None else (rows, classes)
    primary = Task(
        jnp.asarray(rng.standard_normal((rows, D)) * scales), jnp.asarray(np.sign(rng.standard_normal(targets)))
    )
    harmful = Task(
        jnp.asarray(rng.standard_normal((rows, D)) * scales[::-1]), jnp.asarray(np.sign(rng.standard_normal(targets)))
    )
    return TaskPair(primary, harmful)
