"""Optimizers by name: those of optax that a scheduled rate and gradients suffice for, and some with steps from the Hessian.

A learning rate means what it means in optax for the adaptive ones; for `gd`, `momentum`, `nesterov` and `sgd` it is in units of
1 / L, L the largest eigenvalue of the loss's Hessian in the probe, so that one grid of rates fits every extractor.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from cimm_jax.errors import InputError

__all__ = [
    "IN_UNITS_OF_CURVATURE",
    "SCHEDULES",
    "WITHOUT_RATE",
    "Schedule",
    "about",
    "build",
    "check_optimizer",
    "commutes_with_rotations",
    "has_rate",
    "known_optimizers",
]

IN_UNITS_OF_CURVATURE = {
    "gd": optax.sgd,
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
}
"""Plain gradient steps; their rate is multiplied by 1 / L. `sgd` is the same on minibatches."""

WITHOUT_RATE = ("line_search", "inverse_smoothness", "optimal_constant", "conjugate_gradient", "lbfgs")
"""Exact line search (Eq. 16), constant steps 1 / L and 2 / (L + mu), conjugate gradient, L-BFGS."""

_OWN = {
    "gd": "Gradient descent; the rate is in units of 1 / L.",
    "sgd": "Gradient descent on minibatches; the rate is in units of 1 / L.",
    "momentum": "Gradient descent with momentum 0.9; the rate is in units of 1 / L.",
    "nesterov": "Gradient descent with Nesterov's momentum 0.9; the rate is in units of 1 / L.",
    "line_search": "Gradient descent with exact line search (Eq. 16 of the paper).",
    "inverse_smoothness": "Gradient descent with constant steps 1 / L.",
    "optimal_constant": "Gradient descent with constant steps 2 / (L + mu).",
    "conjugate_gradient": "Conjugate gradient.",
    "lbfgs": "L-BFGS with a line search.",
}
"""What those are that are not optax's by their names."""

_NOT_OPTIMIZERS = {"lbfgs", "sgd", "noisy_sgd", "dpsgd"}
_WITHOUT_SCHEDULE = {"optimistic_adam", "rprop", "sm3"}
_WITH_MORE_THAN_GRADIENTS = {"sophia"}
_LEFT_OUT = _NOT_OPTIMIZERS | _WITHOUT_SCHEDULE | _WITH_MORE_THAN_GRADIENTS


@dataclass(frozen=True)
class Schedule:
    """The course of the learning rate over the steps, as a share of it.

    Attributes:
      name: "constant", "cosine" or "warmup" (linear over the first tenth, then cosine).
    """

    name: str = "constant"

    def __post_init__(self):
        if self.name not in SCHEDULES:
            raise InputError(f"schedule: {self.name!r} is unknown; choose one of {', '.join(SCHEDULES)}")

    def over(self, steps: int) -> optax.Schedule:
        """Step number -> share of the rate."""
        if self.name == "cosine":
            return optax.cosine_decay_schedule(1.0, steps)
        if self.name == "warmup":
            return optax.warmup_cosine_decay_schedule(0.0, 1.0, max(1, steps // 10), max(2, steps))
        return optax.constant_schedule(1.0)


SCHEDULES = ("constant", "cosine", "warmup")


def known_optimizers() -> tuple[str, ...]:
    """Every name that `linear_probe` takes."""
    return tuple(sorted({*IN_UNITS_OF_CURVATURE, *WITHOUT_RATE, *_from_optax()}))


def about(name: str) -> str:
    """One of `known_optimizers` in a line; those of optax as their docstrings begin."""
    return _OWN[name] if name in _OWN else (inspect.getdoc(_from_optax()[name]) or "").partition("\n")[0]


def check_optimizer(name: str) -> None:
    """Raises `InputError` with the known names if there is no such optimizer."""
    if name not in known_optimizers():
        raise InputError(f"optimizer: {name!r} is unknown; choose one of {', '.join(known_optimizers())}")


def has_rate(name: str) -> bool:
    """Whether the optimizer takes a learning rate."""
    return name not in WITHOUT_RATE


def commutes_with_rotations(name: str) -> bool:
    """Whether full-batch runs from a zero probe are the same in every orthonormal basis."""
    return name in WITHOUT_RATE or (name in IN_UNITS_OF_CURVATURE and name != "sgd")


def build(
    name: str, rate: jax.Array, *, largest: jax.Array, schedule: Schedule, steps: int
) -> optax.GradientTransformation:
    """An optimizer with a rate, traced or not.

    Args:
      name: one that takes a rate.
      rate: learning rate.
      largest: L, the largest eigenvalue of the Hessian.
      schedule: course of the rate.
      steps: length of the course.
    """
    share = schedule.over(steps)
    unit = 1 / largest if name in IN_UNITS_OF_CURVATURE else jnp.ones_like(largest)
    factory = IN_UNITS_OF_CURVATURE.get(name) or _from_optax()[name]
    return factory(lambda count: (rate * unit * share(count)).astype(largest.dtype))


def _from_optax() -> dict[str, Callable]:
    """Optimizers of optax that work with a learning rate alone, a schedule of it too, by name."""
    found = {}
    for module in (optax, optax.contrib):
        for name, function in vars(module).items():
            if name.startswith(("_", "scale_by_")) or name in _LEFT_OUT or not inspect.isfunction(function):
                continue
            parameters = inspect.signature(function).parameters.values()
            needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
            if needed == ["learning_rate"]:
                found[name] = function
    return found
