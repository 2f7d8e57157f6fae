"""A backbone taken apart into pytrees, and its calls as pure functions of them, for `jit`, `grad`, `vmap` and sharding.

    parts = split(model, "layer4.0")
    activations = jax.jit(trunk, static_argnames="cut")(parts, x, "layer4.0")

    def loss(tail_params):
        return ... tail(parts._replace(tail=tail_params), activations, "layer4.0") ...

    gradient = jax.grad(loss)(parts.tail)

A cut is static: name it among `static_argnames`. The structure travels inside `Split` as static data.
"""

from typing import NamedTuple

import jax
from flax import nnx

from cimm_jax.networks.backbone import Backbone

__all__ = [
    "Split",
    "batch_statistics",
    "features",
    "logits",
    "merge",
    "pooled",
    "split",
    "tail",
    "train_tail",
    "trunk",
]


class Split(NamedTuple):
    """A backbone as a pytree.

    Attributes:
      graphdef: structure and settings, static.
      tail: parameters behind the cut.
      trunk: parameters before the cut.
      head: parameters of the head.
      batch_stats: stored statistics of every batch normalisation.
    """

    graphdef: nnx.GraphDef[Backbone]
    tail: nnx.State
    trunk: nnx.State
    head: nnx.State
    batch_stats: nnx.State


def split(model: Backbone, cut: str | None = None) -> Split:
    """Takes the model apart at the cut; None is before the first part, which leaves the trunk empty.

    Raises:
      InputError: if there is no such cut.
    """
    in_tail = model.in_tail(model.cuts[0] if cut is None else cut)
    in_head = nnx.PathContains("head")
    return Split(
        *nnx.split(model, nnx.All(nnx.Param, in_tail), nnx.All(nnx.Param, nnx.Not(in_head)), in_head, nnx.BatchStat)
    )


def merge(parts: Split) -> Backbone:
    """The model again."""
    return nnx.merge(*parts)


def features(parts: Split, x: jax.Array) -> jax.Array:
    """`Backbone.features`, with stored statistics."""
    return merge(parts).features(x)


def logits(parts: Split, x: jax.Array) -> jax.Array:
    """`Backbone.__call__`, with stored statistics."""
    return merge(parts)(x)


def trunk(parts: Split, x: jax.Array, cut: str) -> jax.Array:
    """`Backbone.trunk`, with stored statistics."""
    return merge(parts).trunk(x, cut)


def pooled(parts: Split, x: jax.Array) -> dict[str, jax.Array]:
    """`Backbone.pooled`, with stored statistics."""
    return merge(parts).pooled(x)


def tail(parts: Split, activations: jax.Array, cut: str) -> jax.Array:
    """`Backbone.tail`, with stored statistics."""
    return merge(parts).tail(activations, cut)


def train_tail(parts: Split, activations: jax.Array, cut: str) -> tuple[jax.Array, nnx.State]:
    """`Backbone.tail` with the statistics of the batch: the features, and the new `batch_stats`."""
    model = _own(parts)
    result = model.tail(activations, cut, training=True)
    return result, nnx.state(model, nnx.BatchStat)


def batch_statistics(parts: Split, activations: jax.Array, cut: str) -> nnx.State:
    """`batch_stats` that make `tail` of these activations what `train_tail` is: those of this batch alone, behind the cut.

    A training step stores momentum * stored + (1 - momentum) * batch; this is one with a momentum of 0.
    """
    model = _own(parts)
    for _, layer in nnx.iter_modules(model):
        if isinstance(layer, nnx.BatchNorm):
            layer.momentum = 0.0
    model.tail(activations, cut, training=True)
    return nnx.state(model, nnx.BatchStat)


def _own(parts: Split) -> Backbone:
    """The model with variables of its own: those of the parts may be from outside of what is being traced, and stay."""
    return nnx.merge(*parts, copy=True)
