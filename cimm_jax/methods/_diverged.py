"""At which step a run stopped being finite, and why: what a caller is told in place of an extractor of NaN."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.errors import InputError
from cimm_jax.methods.protocol import Info, Method
from cimm_jax.methods.stepping import Run, advance
from cimm_jax.tasks import TaskPair

__all__ = ["diverged"]


def diverged(method: Method, run: Run, pair: TaskPair, steps: int, batch_size: int | None) -> InputError:
    """What to raise: makes the run's steps again, up to the first after which the extractor is not finite.

    Args:
      method: the method.
      run: from `start`, as the run was that failed.
      pair: its training data.
      steps: how many were made.
      batch_size: as in `advance`.
    """
    run, info = _until_not_finite(method, run, pair, steps, batch_size)
    before = ", ".join(
        f"{name} {float(value):.3g}"
        for name, value in zip(info._fields[:3], info[:3], strict=True)
        if not np.isnan(value)
    )
    return InputError(
        f"pair: theta is not finite after step {run.steps} of {steps} (before it: {before}); {_why(pair, info)}"
    )


def _why(pair: TaskPair, info: Info) -> str:
    numbers = jnp.finfo(pair.primary.x.dtype)
    largest = [float(jnp.abs(task.x).max()) for task in pair]
    if not all(float(numbers.tiny) ** 0.25 < size < float(numbers.max) ** 0.25 for size in largest):
        sizes = " and ".join(f"{size:.3g}" for size in largest)
        return f"features as large as {sizes} leave the range of {numbers.dtype} where they are multiplied: scale both tasks"
    if float(info.kappa_harmful) <= 1 + 10 * float(numbers.eps):
        return (
            "the harmful Hessian has condition number 1, as every one of rank 1 has: this method has nothing to raise"
        )
    return "the steps are too long: take an optimizer of a smaller learning rate, or smaller weights"


@partial(jax.jit, static_argnames=("method", "batch_size"))
def _until_not_finite(method, run, pair, steps, batch_size):
    def step(carry):
        return advance(method, carry[0], pair, steps=1, batch_size=batch_size)

    def goes_on(carry):
        return (carry[0].steps < steps) & jnp.isfinite(method.extractor(carry[0].state)).all()

    return jax.lax.while_loop(goes_on, step, step((run, None)))
