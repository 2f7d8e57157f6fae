"""What an immunization method is: three pure functions, as an optax optimizer is two."""

import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial, wraps
from typing import Any, NamedTuple, ParamSpec, overload

import jax

from cimm_jax.numerics.penalty import Penalty
from cimm_jax.numerics.trained_weights import FewWeights, Renewal
from cimm_jax.tasks import TaskPair

__all__ = ["Info", "Made", "Method", "P", "reused"]

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


@dataclass(frozen=True, eq=False)
class Made:
    """How a method was made.

    Attributes:
      factory: the function that made it.
      settings: its arguments, but for those at their defaults.
      fields: of the method, this one left out.
    """

    factory: Callable[..., Any]
    settings: Mapping[str, Any]
    fields: tuple[Any, ...]


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
        linear maps only, which blocks may learn where they are closed forms (`trains_blocks`).
      makes_maps: False if it trains blocks alone; the three functions are then for nothing.
      few: which weights of trained blocks alone it moves; None moves all.
      renewal: what becomes of trained blocks in the middle of training; None leaves them.
      recipe: settings of `networks.training.TrainingSettings`, as (name, value), that trained blocks start from; whoever gives
        others overrides them.
      check: raises `InputError` for a concrete pair that it can make nothing of; None if any usable pair will do.
      made: how `reused` made it, so that it can be pickled; what comes back is the same method. None if nobody says.
    """

    init: Callable[[jax.Array, TaskPair], Any]
    step: Callable[[Any, TaskPair], tuple[Any, Info]]
    extractor: Callable[[Any], jax.Array]
    closed_form: bool = False
    needs_targets: bool = True
    penalties: tuple[Penalty, ...] | None = None
    makes_maps: bool = True
    few: FewWeights | None = None
    renewal: Renewal | None = None
    recipe: tuple[tuple[str, Any], ...] = ()
    check: Callable[[TaskPair], None] | None = None
    made: Made | None = None

    @property
    def trains_blocks(self) -> bool:
        """Whether blocks of a network can be trained with it: by its penalties, or to give what its closed form gives."""
        return self.penalties is not None or self.closed_form

    def __reduce__(self) -> tuple[Any, ...]:
        if self.made is None or self.made.fields != self[:-1]:
            raise pickle.PicklingError("this method was put together by hand; give it to a process as what makes it")
        return _made_again, (self.made.factory, dict(self.made.settings))


@overload
def reused(factory: Callable[P, Method], /) -> Callable[P, Method]: ...


@overload
def reused(**spelt_out: Callable[[], Any]) -> Callable[[Callable[P, Method]], Callable[P, Method]]: ...


def reused(factory: Any = None, /, **spelt_out: Callable[[], Any]) -> Any:
    """Makes a factory give the same method again for equal settings, so that JAX finds it compiled.

    However they are written: an argument at its default is the same as one left out. Settings that cannot be hashed are not
    remembered.

    Args:
      factory: the function, all of whose arguments may be left out.
      spelt_out: of arguments whose default is None, what gives the value that None stands for.
    """
    if factory is None:
        return partial(reused, **spelt_out)
    signature = inspect.signature(factory)

    def fresh(settings: Mapping[str, Any]) -> Method:
        method = factory(**settings)
        return method._replace(made=Made(make, settings, tuple(method)[:-1]))

    @lru_cache(maxsize=256)
    def remembered(settings: frozenset[tuple[str, Any]]) -> Method:
        return fresh(dict(settings))

    def is_default(name: str, value: Any) -> bool:
        hash(value)  # what has none, such as an array, may have no truth either
        spelt = spelt_out[name]() if name in spelt_out else signature.parameters[name].default
        return bool(value == signature.parameters[name].default or value == spelt)

    @wraps(factory)
    def make(*args: Any, **given: Any) -> Method:
        try:
            settings = signature.bind(*args, **given).arguments
        except TypeError:
            return factory(*args, **given)  # whose error names the function
        try:
            key = frozenset((name, value) for name, value in settings.items() if not is_default(name, value))
        except TypeError:
            return fresh(settings)
        return remembered(key)

    return make


def _made_again(factory: Callable[..., Method], settings: Mapping[str, Any]) -> Method:
    return factory(**settings)
