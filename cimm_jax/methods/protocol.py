"""What an immunization method is: three pure functions, as an optax optimizer is two."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from cimm_jax.tasks import TaskPair


class Info(NamedTuple):
    """What one step reports. Scalars of the pair's dtype; kappa under `PseudoInverse()`.

    Attributes:
      loss: the primary task's loss before the step, on the step's batch; NaN for a method that trains no primary head.
      kappa_primary: condition number of the primary probe Hessian before the step.
      kappa_harmful: the same for the harmful task.
      floored: bool, True if a floor or the arithmetic decided either; the Hessians are formed, so float32 resolves
        kappa to about 1e5 and float64 to 1e13. Measure the final theta with `metrics`, which works on features.
    """

    loss: jax.Array
    kappa_primary: jax.Array
    kappa_harmful: jax.Array
    floored: jax.Array


class Method(NamedTuple):
    """An immunization method for linear extractors theta of shape (d, d).

    All three functions are pure, so `jit`, `vmap` and `lax.scan` apply; the state is a pytree of arrays. A closed-form
    method has one step. A method is a value: keep one and reuse it, since a new one compiles anew.

    Attributes:
      init: (key, pair) -> state. Sees the whole training pair.
      step: (state, batch) -> (state, Info). The batch is the pair itself, or rows of both tasks.
      extractor: state -> theta, shape (d, d).
      closed_form: True if the first step reaches the answer and further ones change nothing.
      needs_targets: False if tasks without targets will do.
    """

    init: Callable[[jax.Array, TaskPair], Any]
    step: Callable[[Any, TaskPair], tuple[Any, Info]]
    extractor: Callable[[Any], jax.Array]
    closed_form: bool = False
    needs_targets: bool = True
