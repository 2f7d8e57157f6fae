"""Optimizers as pairs of pure functions over a `Problem`: what a linear-probe attack does at each step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cimm_jax.attacks.problem import Problem
from cimm_jax.numerics import losses

__all__ = [
    "Stepper",
    "conjugate_gradient_stepper",
    "gradient_stepper",
    "hessian_stepper",
    "lbfgs_stepper",
    "optax_promotions",
]


class Stepper(NamedTuple):
    """An optimizer over the problem's variable.

    Attributes:
      init: `(problem, key) -> state`.
      step: `(problem, state) -> (state, value)`, value the loss that the step saw before it moved.
      variable: `(state) -> variable`.
    """

    init: Callable[[Problem, jax.Array], Any]
    step: Callable[[Problem, Any], tuple[Any, jax.Array]]
    variable: Callable[[Any], jax.Array]


def gradient_stepper(
    build_at: Callable[..., optax.GradientTransformation],
    loss: losses.Loss,
    batch_size: int | None,
    random_start: bool,
) -> Stepper:
    """Any gradient optimizer of optax; `build_at(largest=...)` makes it from the largest curvature."""

    def optimizer(problem: Problem) -> optax.GradientTransformationExtraArgs:
        return optax.with_extra_args_support(build_at(largest=problem.largest))

    def init(problem: Problem, key: jax.Array):
        variable = problem.start
        if random_start:
            key, draw = jax.random.split(key)
            width = 1 / variable.shape[0] ** 0.5
            variable = jax.random.uniform(draw, variable.shape, variable.dtype, -width, width)
        with optax_promotions():
            return variable, optimizer(problem).init(variable), key

    def step(problem: Problem, state):
        variable, inner, key = state
        key, draw = jax.random.split(key)
        if batch_size is not None:
            rows = jax.random.randint(draw, (batch_size,), 0, len(problem.y))
            problem = problem._replace(x=problem.x[rows], y=problem.y[rows])
        value, gradient = problem.value_and_gradient(variable, loss)
        with optax_promotions():
            updates, inner = optimizer(problem).update(gradient, inner, variable)
        return (optax.apply_updates(variable, updates), inner, key), value

    return Stepper(init, step, lambda state: state[0])


def hessian_stepper(name: str, loss: losses.Loss) -> Stepper:
    """Gradient descent whose step length the Hessian gives: `line_search`, `inverse_smoothness`, `optimal_constant`."""

    def init(problem: Problem, key: jax.Array):
        del key
        return problem.start

    def step(problem: Problem, variable: jax.Array):
        value, gradient = problem.value_and_gradient(variable, loss)
        if name == "inverse_smoothness":
            return variable - gradient / problem.largest, value
        if name == "optimal_constant":
            return variable - 2 * gradient / (problem.largest + problem.smallest), value
        along = jnp.mean(problem.scores(gradient) ** 2)
        return variable - _divided(jnp.sum(gradient**2), along) * gradient, value

    return Stepper(init, step, lambda variable: variable)


def lbfgs_stepper(loss: losses.Loss) -> Stepper:
    """L-BFGS with optax's zoom line search."""
    optimizer = optax.lbfgs()

    def init(problem: Problem, key: jax.Array):
        del key
        with optax_promotions():
            return problem.start, optimizer.init(problem.start)

    def step(problem: Problem, state):
        variable, inner = state
        function = partial(problem.value, loss=loss)
        with optax_promotions():
            value, gradient = optax.value_and_grad_from_state(function)(variable, state=inner)
            updates, inner = optimizer.update(gradient, inner, variable, value=value, grad=gradient, value_fn=function)
        return (optax.apply_updates(variable, updates), inner), jnp.asarray(value)

    return Stepper(init, step, lambda state: state[0])


def conjugate_gradient_stepper() -> Stepper:
    """Conjugate gradient for least squares (CGLS), each target with its own step lengths.

    On ill-conditioned features an error need not fall once rounding rules, and yet falls again later. So the recurrences go
    on, and the best variable so far is what is reported; stopping at the first rise would leave far more of the loss.
    """

    def init(problem: Problem, key: jax.Array):
        del key
        residual = problem.transposed(problem.y)
        return problem.start, problem.y, residual, residual, problem.start, jnp.sum(problem.y**2, axis=0)

    def step(problem: Problem, state):
        variable, error, residual, direction, best, least = state
        image = problem.scores(direction)
        before = jnp.sum(residual**2, axis=0)
        variable = variable + _divided(before, jnp.sum(image**2, axis=0))[None, :] * direction
        error = problem.y - problem.scores(variable)
        squares = jnp.sum(error**2, axis=0)
        residual = problem.transposed(error)
        beta = _divided(jnp.sum(residual**2, axis=0), before)
        value = 0.5 * jnp.sum(least) / problem.y.size + problem.offset
        best = jnp.where((squares < least)[None, :], variable, best)
        least = jnp.where(squares < least, squares, least)  # NaN, too, is no improvement
        return (variable, error, residual, residual + beta[None, :] * direction, best, least), value

    return Stepper(init, step, lambda state: state[4])


@contextmanager
def optax_promotions() -> Iterator[None]:
    """Optimizers mix dtypes and ranks as JAX's defaults allow; a program that forbids it elsewhere can still use them."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _divided(above: jax.Array, below: jax.Array) -> jax.Array:
    """Above / below; zero where below is zero: what is fitted stays fitted."""
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0)
