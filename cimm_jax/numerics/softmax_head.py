"""Softmax regression by descent that needs no rate, for heads within a step of training."""

import jax

from cimm_jax.numerics.products import product

__all__ = ["softmax_steps"]


def softmax_steps(head: jax.Array, x: jax.Array, targets: jax.Array, steps: int) -> jax.Array:
    """The head after some steps of gradient descent on the cross-entropy, each of 1 over a bound on the curvature.

    Args:
      head: shape (d, C).
      x: standardised features, shape (B, d).
      targets: one-hot, shape (B, C).
      steps: how many.
    """
    # The trace of X^T X / B, at most d, bounds its largest eigenvalue; half of that, the softmax loss's curvature.
    rate = 2 / x.shape[1]

    def step(_: int, head: jax.Array) -> jax.Array:
        wrong = targets - jax.nn.softmax(product(x, head))
        return head + rate * product(x.T, wrong) / len(x)

    return jax.lax.fori_loop(0, steps, step, head)
