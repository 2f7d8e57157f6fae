"""The linear-probe attacker: fit w on frozen features F by any optimizer, from a zero probe.

One compiled scan an optimizer; learning rate and key are traced, so that `vmap` runs a whole grid of them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cimm_jax import losses
from cimm_jax.attacks.optimizers import Schedule, build, check_optimizer, has_rate
from cimm_jax.attacks.protocol import Attack, Target, Trace, accuracy, log_spaced_steps
from cimm_jax.decompositions import svd
from cimm_jax.errors import InputError

_HIGHEST = jax.lax.Precision.HIGHEST

DIVERGED = 1e3
"""An attack whose loss exceeds this many times that of a zero probe has diverged."""

CURVATURE_BOUND: dict[losses.Loss, float] = {losses.squared: 1.0, losses.logistic: 0.25, losses.softmax: 0.5}
"""Largest second derivative of each loss in a score, which bounds the Hessian by that times F^T F / N."""


class Problem(NamedTuple):
    """What an optimizer may know of the features.

    Attributes:
      target: the features.
      largest: bound on the largest eigenvalue of the Hessian.
      smallest: the same bound times sigma_min^2 / sigma_max^2 over the non-zero singular values.
      best: least-squares probe, shape (d, C); targets of shape (N,) have become (N, 1).
    """

    target: Target
    largest: jax.Array
    smallest: jax.Array
    best: jax.Array


class Stepper(NamedTuple):
    """An optimizer over probes: `init(problem, key) -> state`, `step(problem, state) -> state`, `probe(state) -> w`."""

    init: Callable[[Problem, jax.Array], Any]
    step: Callable[[Problem, Any], Any]
    probe: Callable[[Any], jax.Array]


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
    recorded = tuple(log_spaced_steps(steps) if record_at is None else record_at)
    if not recorded or list(recorded) != sorted(set(recorded)) or recorded[0] < 1 or recorded[-1] > steps:
        raise InputError(f"record_at: needs ascending numbers from 1 to steps={steps}, got {recorded}")
    if loss not in CURVATURE_BOUND:
        raise InputError(f"loss: needs one of cimm_jax.losses, got {loss}")
    if loss is not losses.squared and optimizer in ("line_search", "conjugate_gradient", "optimal_constant"):
        raise InputError(f"optimizer: {optimizer} is exact for the squared loss only; choose another, or that loss")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size: needs at least 1, got {batch_size}")
    if batch_size is None and optimizer == "sgd":
        batch_size = 32
    if not has_rate(optimizer):
        for setting, given in (("batch_size", batch_size is not None), ("random_start", random_start)):
            if given:
                raise InputError(f"{setting}: {optimizer} has no such setting; leave it out")

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        target = Target(*(task._replace(y=task.y.reshape(task.y.shape[0], -1)) for task in target))
        if has_rate(optimizer):
            build_at = partial(build, optimizer, rate, schedule=schedule, steps=steps)
            stepper = _by_rate(build_at, loss, batch_size, random_start)
        else:
            stepper = _without_rate(optimizer, loss)
        return _run(stepper, _problem(target, loss), loss, key, recorded)

    return attack


def _problem(target: Target, loss: losses.Loss) -> Problem:
    x, y = target.fit
    u, sigma, vt = svd(x)
    kept = sigma > 2 * min(x.shape) ** 0.5 * float(jnp.finfo(x.dtype).eps) * sigma[0]
    inverse = jnp.where(kept, 1 / jnp.where(kept, sigma, 1), 0)
    coefficients = jnp.matmul(u.T, y, precision=_HIGHEST)
    best = jnp.matmul(vt.T, inverse[:, None] * coefficients, precision=_HIGHEST)
    bound = CURVATURE_BOUND[loss] / (y.shape[0] if loss is losses.softmax else y.size)
    return Problem(target, bound * sigma[0] ** 2, bound * jnp.where(kept, sigma, sigma[0]).min() ** 2, best)


def _scores(x: jax.Array, probe: jax.Array) -> jax.Array:
    return jnp.matmul(x, probe, precision=_HIGHEST)


def _run(stepper: Stepper, problem: Problem, loss: losses.Loss, key: jax.Array, recorded: tuple[int, ...]) -> Trace:
    fit, heldout = problem.target
    zero = jnp.zeros_like(problem.best)
    start_loss = loss(_scores(fit.x, zero), fit.y)
    is_squared = loss is losses.squared

    def measure(probe: jax.Array, diverged: jax.Array) -> Trace:
        scores = _scores(heldout.x, probe)
        distance = jnp.sum(jnp.square(probe - problem.best))
        initial = jnp.sum(jnp.square(problem.best))
        ratio = distance / jnp.where(initial > 0, initial, 1) if is_squared else jnp.full_like(distance, jnp.nan)
        fitted = loss(_scores(fit.x, probe), fit.y)
        return Trace(fitted, loss(scores, heldout.y), accuracy(scores, heldout.y), ratio, diverged)

    def advance(_, carry):
        state, diverged = carry
        after = stepper.step(problem, state)
        value = loss(_scores(fit.x, stepper.probe(after)), fit.y)
        diverged |= ~(value <= DIVERGED * start_loss)
        # From there on nothing moves, so that every number reported is one that was there before.
        kept = jax.tree.map(lambda new, old: jnp.where(diverged, old, new), after, state)
        return kept, diverged

    def record(carry, count):
        carry = jax.lax.fori_loop(0, count, advance, carry)
        return carry, measure(stepper.probe(carry[0]), carry[1])

    counts = jnp.diff(jnp.asarray((0, *recorded), jnp.int32))
    return jax.lax.scan(record, (stepper.init(problem, key), jnp.zeros((), bool)), counts)[1]


def _by_rate(
    build_at: Callable[..., optax.GradientTransformation], loss: losses.Loss, batch_size: int | None, random_start: bool
) -> Stepper:
    """Any gradient optimizer of optax; `build_at(largest=...)` makes it."""

    def optimizer(problem: Problem) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(build_at(largest=problem.largest))

    def init(problem: Problem, key: jax.Array):
        probe = jnp.zeros_like(problem.best)
        if random_start:
            key, draw = jax.random.split(key)
            width = 1 / probe.shape[0] ** 0.5
            probe = jax.random.uniform(draw, probe.shape, probe.dtype, -width, width)
        return probe, optimizer(problem).init(probe), key

    def step(problem: Problem, state):
        probe, inner, key = state
        key, draw = jax.random.split(key)
        x, y = problem.target.fit
        if batch_size is not None:
            rows = jax.random.randint(draw, (batch_size,), 0, len(x))
            x, y = x[rows], y[rows]

        def value(probe):
            return loss(_scores(x, probe), y)

        gradient = jax.grad(value)(probe)
        updates, inner = optimizer(problem).update(gradient, inner, probe)
        return optax.apply_updates(probe, updates), inner, key

    return Stepper(init, step, lambda state: state[0])


def _without_rate(name: str, loss: losses.Loss) -> Stepper:
    if name == "lbfgs":
        return _lbfgs(loss)
    if name == "conjugate_gradient":
        return _conjugate_gradient()

    def init(problem: Problem, key: jax.Array):
        del key
        return jnp.zeros_like(problem.best)

    def step(problem: Problem, probe: jax.Array):
        x, y = problem.target.fit
        gradient = jax.grad(lambda probe: loss(_scores(x, probe), y))(probe)
        if name == "inverse_smoothness":
            return probe - gradient / problem.largest
        if name == "optimal_constant":
            return probe - 2 * gradient / (problem.largest + problem.smallest)
        image = _scores(x, gradient)
        return probe - _divided(jnp.sum(gradient**2), jnp.mean(image**2)) * gradient

    return Stepper(init, step, lambda probe: probe)


def _lbfgs(loss: losses.Loss) -> Stepper:
    """L-BFGS with optax's zoom line search."""
    optimizer = optax.lbfgs()

    def value(problem: Problem):
        x, y = problem.target.fit
        return lambda probe: loss(_scores(x, probe), y)

    def init(problem: Problem, key: jax.Array):
        del key
        probe = jnp.zeros_like(problem.best)
        return probe, optimizer.init(probe)

    def step(problem: Problem, state):
        probe, inner = state
        function = value(problem)
        now, gradient = optax.value_and_grad_from_state(function)(probe, state=inner)
        updates, inner = optimizer.update(gradient, inner, probe, value=now, grad=gradient, value_fn=function)
        return optax.apply_updates(probe, updates), inner

    return Stepper(init, step, lambda state: state[0])


def _conjugate_gradient() -> Stepper:
    """Conjugate gradient on the normal equations of the squared loss, all targets with their own step lengths."""

    def init(problem: Problem, key: jax.Array):
        del key
        residual = jnp.matmul(problem.target.fit.x.T, problem.target.fit.y, precision=_HIGHEST)
        # Below this the residual is rounding, and further steps would blow it up again.
        finished = (float(jnp.finfo(residual.dtype).eps) * jnp.linalg.norm(residual, axis=0)) ** 2
        return jnp.zeros_like(problem.best), residual, residual, finished

    def step(problem: Problem, state):
        probe, residual, direction, finished = state
        image = _scores(problem.target.fit.x, direction)
        before = jnp.sum(residual**2, axis=0)
        alpha = jnp.where(before > finished, _divided(before, jnp.sum(image**2, axis=0)), 0)
        probe = probe + alpha[None, :] * direction
        residual = residual - alpha[None, :] * jnp.matmul(problem.target.fit.x.T, image, precision=_HIGHEST)
        beta = _divided(jnp.sum(residual**2, axis=0), before)
        return probe, residual, residual + beta[None, :] * direction, finished

    return Stepper(init, step, lambda state: state[0])


def _divided(above: jax.Array, below: jax.Array) -> jax.Array:
    """Above / below; zero where below is zero: a target that is fitted stays fitted."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0)
