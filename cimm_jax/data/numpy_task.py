"""A task made of numpy arrays, which is what every loader hands over."""

from typing import cast

import jax
import numpy as np

from cimm_jax.tasks import Task


def numpy_task(x: np.ndarray, y: np.ndarray) -> Task:
    """`Task(x, y)`, x of shape (N, d) and y of shape (N,), both float64 and left on the host.

    `Task` is annotated with the JAX arrays that methods compute with. Numpy arrays serve as well, and unlike JAX ones
    they keep float64 whether or not the caller has switched on 64-bit JAX.
    """
    return Task(cast(jax.Array, x), cast(jax.Array, y))
