"""The linear-probe attacker: fit w on frozen features F by any optimizer, from a zero probe or a random one.

One compiled scan an optimizer; learning rate and key are traced, so that `vmap` runs a whole grid of them.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from cimm_jax.attacks._recording import record_steps
from cimm_jax.attacks.optimizers import Schedule, build, check_optimizer, commutes_with_rotations, has_rate
from cimm_jax.attacks.problem import CURVATURE_BOUND, Problem, column_targets, make_problem
from cimm_jax.attacks.protocol import Attack, Target, Trace, accuracy, check_records
from cimm_jax.attacks.steppers import (
    Stepper,
    conjugate_gradient_stepper,
    gradient_stepper,
    hessian_stepper,
    lbfgs_stepper,
)
from cimm_jax.errors import InputError
from cimm_jax.numerics import losses
from cimm_jax.numerics.products import product

SGD_BATCH = 32
QUADRATIC_ONLY = ("line_search", "conjugate_gradient", "optimal_constant")


def linear_probe(
    optimizer: str = "line_search",
    *,
    steps: int = 1000,
    loss: losses.Loss = losses.squared,
    schedule: Schedule = Schedule(),
    batch_size: int | None = None,
    random_start: bool = False,
    record_at: Sequence[int] | None = None,
) -> Attack:
    """An attacker `(key, target, rate) -> Trace`.

    Args:
      optimizer: a name of `optimizers.known_optimizers()`.
      steps: optimizer steps, at least 1.
      loss: `losses.squared`, `losses.logistic` or `losses.softmax`.
      schedule: course of the learning rate.
      batch_size: rows a step, drawn with replacement; None is all, except for `sgd`, which takes 32.
      random_start: start from a probe drawn uniformly from +-1 / sqrt(d), as deep-learning frameworks do, instead of zero;
        for optimizers with a rate.
      record_at: ascending numbers of steps to record, none beyond `steps`; None spaces 40 of them evenly in log.

    Raises:
      InputError: if the optimizer is unknown, a number is out of range, or the optimizer cannot be used so.
    """
    check_optimizer(optimizer)
    recorded = check_records(record_at, steps)
    check_loss(loss)
    if loss is not losses.squared and optimizer in QUADRATIC_ONLY:
        raise InputError(f"optimizer: {optimizer} is exact for the squared loss only; choose another, or that loss")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size: needs at least 1, got {batch_size}")
    if not has_rate(optimizer):
        for setting, given in (("batch_size", batch_size is not None), ("random_start", random_start)):
            if given:
                raise InputError(f"{setting}: {optimizer} has no such setting; leave it out")
    rows = SGD_BATCH if batch_size is None and optimizer == "sgd" else batch_size

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        target = column_targets(target)
        axes = random_start or not commutes_with_rotations(optimizer)
        problem = make_problem(target, loss, rows=rows is not None, axes=axes)
        if optimizer == "lbfgs":
            stepper = lbfgs_stepper(loss)
        elif optimizer == "conjugate_gradient":
            stepper = conjugate_gradient_stepper()
        elif has_rate(optimizer):
            build_at = partial(build, optimizer, rate, schedule=schedule, steps=steps)
            stepper = gradient_stepper(build_at, loss, rows, random_start)
        else:
            stepper = hessian_stepper(optimizer, loss)
        return _run(stepper, problem, target, loss, key, recorded)

    return attack


def check_loss(loss: losses.Loss) -> None:
    """Raises `InputError` unless the loss is one that attackers know."""
    if loss not in CURVATURE_BOUND:
        raise InputError(f"loss: needs losses.squared, losses.logistic or losses.softmax, got {loss}")


def measure(problem: Problem, variable: jax.Array, target: Target, loss: losses.Loss) -> Trace:
    """A probe judged, as a trace of scalars that has not diverged."""
    scores = product(target.heldout.x, problem.probe(variable))
    ratio = jnp.full((), jnp.nan, scores.dtype)
    if loss is losses.squared:
        initial = jnp.sum(problem.best**2)
        ratio = jnp.sum((variable - problem.best) ** 2) / jnp.where(initial > 0, initial, 1)
    return Trace(
        problem.value(variable, loss),
        loss(scores, target.heldout.y),
        accuracy(scores, target.heldout.y),
        ratio,
        jnp.zeros((), bool),
    )


def _run(
    stepper: Stepper, problem: Problem, target: Target, loss: losses.Loss, key: jax.Array, recorded: tuple[int, ...]
) -> Trace:
    return record_steps(
        partial(stepper.step, problem),
        lambda state: measure(problem, stepper.variable(state), target, loss),
        stepper.init(problem, key),
        measure(problem, problem.start, target, loss),
        recorded,
    )
