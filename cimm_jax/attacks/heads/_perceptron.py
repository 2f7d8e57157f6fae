"""The head that practitioners would train: one hidden layer, minibatches, AdamW."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cimm_jax.attacks._recording import record_steps
from cimm_jax.attacks.heads._features import features_in_use, standardised_target
from cimm_jax.attacks.heads._judging import class_loss, judged, nothing_learned
from cimm_jax.attacks.optimizers import Schedule
from cimm_jax.attacks.protocol import Attack, Target, Trace, check_records
from cimm_jax.attacks.steppers import optax_promotions
from cimm_jax.errors import InputError
from cimm_jax.numerics.products import product


class _Layers(NamedTuple):
    """Weights (d, hidden), bias (1, hidden), weights (hidden, C), bias (1, C)."""

    inner: jax.Array
    inner_bias: jax.Array
    outer: jax.Array
    outer_bias: jax.Array

    def scores(self, x: jax.Array) -> jax.Array:
        """Shape (N, C) of features (N, d)."""
        return product(jax.nn.relu(product(x, self.inner) + self.inner_bias), self.outer) + self.outer_bias


def perceptron(
    *,
    steps: int = 300,
    record_at: Sequence[int] | None = None,
    hidden: int = 256,
    batch_size: int = 128,
    weight_decay: float = 0.1,
) -> Attack:
    """A perceptron with one hidden layer of rectified units on standardised features; the rate is AdamW's learning rate.

    Trained on cross-entropy (logistic loss for a single column) in minibatches, every row once before any comes again; the rate
    rises over the first tenth of the steps and falls by a cosine. He's initialisation and the batches come from the key; each
    feature has its own draw, so that features of zeros after the others change nothing. Every record costs a pass over all
    rows, fitted and held out, as much as many steps.

    Args:
      steps: of AdamW, at least 1.
      record_at: ascending numbers of steps to record, none beyond `steps`; None spaces 40 of them evenly in log.
      hidden: units, at least 1.
      batch_size: rows a step, at least 1; all of them where there are fewer.
      weight_decay: AdamW's, not negative, of all parameters.

    Raises:
      InputError: if a number is out of range.
    """
    recorded = check_records(record_at, steps)
    for name, value in (("hidden", hidden), ("batch_size", batch_size)):
        if value < 1:
            raise InputError(f"{name}: needs at least 1, got {value}")
    if not 0 <= weight_decay < float("inf"):
        raise InputError(f"weight_decay: needs a number that is not negative, got {weight_decay}")
    share = Schedule("warmup").over(steps)

    def attack(key: jax.Array, target: Target, rate: jax.Array) -> Trace:
        target = standardised_target(target)
        x, y = target.fit
        loss = class_loss(y.shape[1])
        start, order = jax.random.split(key)
        batches = _batches(order, len(x), min(batch_size, len(x)), steps)
        optimizer = optax.adamw(lambda count: (rate * share(count + 1)).astype(x.dtype), weight_decay=weight_decay)
        layers = _initial(start, x, hidden, y.shape[1])

        def step(state):
            layers, inner, count = state
            rows = batches[count]
            value, gradient = jax.value_and_grad(lambda layers: loss(layers.scores(x[rows]), y[rows]))(layers)
            with optax_promotions():
                updates, inner = optimizer.update(gradient, inner, layers)
            return (optax.apply_updates(layers, updates), inner, count + 1), value

        def judge(state) -> Trace:
            layers = state[0]
            return judged(loss, layers.scores(x), layers.scores(target.heldout.x), target)

        with optax_promotions():
            state = (layers, optimizer.init(layers), jnp.zeros((), jnp.int32))
        return record_steps(step, judge, state, nothing_learned(loss, target), recorded)

    return attack


def _batches(key: jax.Array, rows: int, batch_size: int, steps: int) -> jax.Array:
    """Row numbers, int32 of shape (steps, batch_size): shuffles of all rows, one after the other."""
    shuffles = -(-steps * batch_size // rows)
    order = jax.vmap(lambda key: jax.random.permutation(key, rows))(jax.random.split(key, shuffles))
    return order.reshape(-1)[: steps * batch_size].reshape(steps, batch_size).astype(jnp.int32)


def _initial(key: jax.Array, x: jax.Array, hidden: int, classes: int) -> _Layers:
    inner, outer = jax.random.split(key)
    rows = jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(inner, row), (hidden,), x.dtype))(
        jnp.arange(x.shape[1], dtype=jnp.int32)
    )
    return _Layers(
        rows * jnp.sqrt(2 / features_in_use(x)),
        jnp.zeros((1, hidden), x.dtype),
        jax.random.normal(outer, (hidden, classes), x.dtype) * (2 / hidden) ** 0.5,
        jnp.zeros((1, classes), x.dtype),
    )
