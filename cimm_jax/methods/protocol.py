"""What an immunization method is: three pure functions, as an optax optimizer is two."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, NamedTuple, ParamSpec

import jax

from cimm_jax.numerics.penalty import Penalty
from cimm_jax.tasks import TaskPair

__all__ = ["Info", "Method", "P", "reused"]

P = ParamSpec("P")


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
    """An immunization method in all its forms: for linear extractors theta of shape (d, d), and for trained blocks.

    The three functions are pure, so `jit`, `vmap` and `lax.scan` apply; the state is a pytree of arrays. A closed-form
    method has one step.

    Attributes:
      init: (key, pair) -> state. Sees the whole training pair.
      step: (state, batch) -> (state, Info). The batch is the pair itself, or rows of both tasks.
      extractor: state -> theta, shape (d, d).
      closed_form: True if the first step reaches the answer and further ones change nothing.
      needs_targets: False if tasks without targets will do.
      penalties: what it adds to the primary loss where blocks of a network are trained (Eqs. 17 and 18); None if it makes
        linear maps only.
    """

    init: Callable[[jax.Array, TaskPair], Any]
    step: Callable[[Any, TaskPair], tuple[Any, Info]]
    extractor: Callable[[Any], jax.Array]
    closed_form: bool = False
    needs_targets: bool = True
    penalties: tuple[Penalty, ...] | None = None


def reused(factory: Callable[P, Method]) -> Callable[P, Method]:
    """Makes a factory give the same method again for equal settings, so that JAX finds it compiled.

    Settings that cannot be hashed are not remembered.
    """
    remembered = lru_cache(maxsize=256)(factory)

    @wraps(factory)
    def make(*args: P.args, **settings: P.kwargs) -> Method:
        try:
            hash((args, tuple(settings.values())))
        except TypeError:
            return factory(*args, **settings)
        return remembered(*args, **settings)

    return make
