"""A published network in the hands of somebody who changes its weights: what they have, and what the network gives them."""

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.closed_form.heads import Head
from cimm_jax.errors import InputError
from cimm_jax.networks import functional
from cimm_jax.networks.functional import Split
from cimm_jax.networks.key_maps import Path
from cimm_jax.networks.lora import Adapters, adapted
from cimm_jax.numerics.inputs import is_concrete
from cimm_jax.numerics.products import product
from cimm_jax.tasks import Array

__all__ = [
    "BATCH_ROWS",
    "LORA_SCALE",
    "STATISTICS",
    "Tunable",
    "Victim",
    "Weights",
    "check_victim",
    "cut_of",
    "width_of",
]

STATISTICS = ("batch", "stored")
"""What batch normalisations normalise by while weights are trained."""

LORA_SCALE = 16.0
"""What the product of an adapter's factors is multiplied by, before it is divided by their rank."""

BATCH_ROWS = 256
"""Rows that are looked at in one go where nothing is trained."""

Weights: TypeAlias = nnx.State | Adapters
"""What is trained: all weights, or adapters of them."""

_MAPPING: Path = ("mapping", "kernel")


class Victim(NamedTuple):
    """What the attacker downloaded, the images they have, and those that they are judged on.

    All images are activations at the cut (`functional.trunk`), which are the preprocessed images themselves before the first
    part; labels are integers from 0.

    Attributes:
      parts: the network, split at the cut (`functional.split`): the trunk stays as it is.
      mapping: a linear map behind the features, shape (d, k), which is one more layer to train; None if there is none.
      head: the published head on the features, mapped ones if there is a map: kernel (k, P), bias (P,); None if unknown.
      fit_x: shape (pool, ...).
      fit_labels: shape (pool,).
      order: shape (pool,), int32: which rows of the pool the attacker gets, first things first.
      count: scalar, int32: how many of them they have.
      heldout_x: other images, shape (rows, ...).
      heldout_labels: shape (rows,).
      primary_x: images of the primary task, shape (rows, ...); None if there are none.
      primary_labels: shape (rows,), in the order of the head's outputs; None if there are none.
    """

    parts: Split
    mapping: Array | None
    head: Head | None
    fit_x: Array
    fit_labels: Array
    order: Array
    count: Array | int
    heldout_x: Array
    heldout_labels: Array
    primary_x: Array | None = None
    primary_labels: Array | None = None


class Tunable(NamedTuple):
    """The network as a function of what an attacker trains.

    Attributes:
      victim: the victim.
      cut: where its parts are split.
      statistics: one of `STATISTICS`.
    """

    victim: Victim
    cut: str
    statistics: str

    @property
    def published(self) -> nnx.State:
        """Weights of the tail and the map as they were downloaded."""
        tail, mapping = self.victim.parts.tail, self.victim.mapping
        added = [] if mapping is None else [(_MAPPING, nnx.Param(jnp.asarray(mapping)))]
        return nnx.from_flat_state([*nnx.to_flat_state(tail), *added])

    @property
    def count(self) -> jax.Array:
        """How many images the attacker has."""
        return jnp.asarray(self.victim.count, jnp.int32)

    def rows(self, numbers: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images and labels of the attacker's rows of these numbers, from 0 to below `count`."""
        of_pool = jnp.asarray(self.victim.order)[numbers]
        return jnp.asarray(self.victim.fit_x)[of_pool], jnp.asarray(self.victim.fit_labels)[of_pool]

    def training_features(self, weights: Weights, x: jax.Array) -> jax.Array:
        """Mapped features, shape (N, k), normalised as in training."""
        if self.statistics == "stored":
            return self.features(weights, self.victim.parts.batch_stats, x)
        parts, mapping = self._taken_apart(weights)
        return _mapped(functional.train_tail(parts, x, self.cut)[0], mapping)

    def features(self, weights: Weights, stored: nnx.State, x: jax.Array) -> jax.Array:
        """Mapped features, shape (N, k), normalised by stored statistics."""
        parts, mapping = self._taken_apart(weights)
        return _mapped(functional.tail(parts._replace(batch_stats=stored), x, self.cut), mapping)

    def served_statistics(self, weights: Weights) -> nnx.State:
        """The statistics that the network is served with: the published ones, or those of `BATCH_ROWS` of the attacker's rows.

        These are evenly spaced over their rows; of fewer rows, each is taken equally often, or once more.
        """
        if self.statistics == "stored":
            return self.victim.parts.batch_stats
        most = min(BATCH_ROWS, len(self.victim.order))
        spaced = jnp.arange(most, dtype=jnp.int32) * self.count // most
        return functional.batch_statistics(self._taken_apart(weights)[0], self.rows(spaced)[0], self.cut)

    def _taken_apart(self, weights: Weights) -> tuple[Split, jax.Array | None]:
        """The network and the map with these weights."""
        whole = weights if isinstance(weights, nnx.State) else adapted(self.published, weights, LORA_SCALE)
        flat = dict(nnx.to_flat_state(whole))
        mapping = flat.pop(_MAPPING, None)
        parts = self.victim.parts._replace(tail=nnx.from_flat_state(list(flat.items())))
        return parts, None if mapping is None else mapping[...]


def cut_of(victim: Victim, cut: str | None) -> str:
    """The name of the cut; None is before the first part."""
    return functional.merge(victim.parts).cuts[0] if cut is None else cut


def width_of(victim: Victim) -> int:
    """Length of a mapped feature row."""
    if victim.mapping is not None:
        return victim.mapping.shape[1]
    return functional.merge(victim.parts).head.in_features


def check_victim(victim: Victim, cut: str) -> None:
    """Looks at shapes, and at what is known of values.

    Raises:
      InputError: if the parts are split elsewhere than at the cut, there are no weights behind it, arrays do not match, or the
        count is out of range.
    """
    parts, pool = victim.parts, len(victim.fit_x)
    in_tail = functional.merge(parts).in_tail(cut)
    sides = ((parts.tail, True), (parts.trunk, False))
    if any(in_tail(path, leaf) != behind for side, behind in sides for path, leaf in nnx.to_flat_state(side)):
        raise InputError(f"victim.parts: are split elsewhere than at {cut!r}; give functional.split(network, {cut!r})")
    if not jax.tree.leaves(parts.tail):
        raise InputError(f"cut: no weights are behind {cut!r}; choose an earlier one")
    if len(victim.fit_labels) != pool or len(victim.order) != pool:
        raise InputError(
            f"victim: fit_x has {pool} rows, fit_labels {len(victim.fit_labels)} and order {len(victim.order)}; make them equal"
        )
    for name in ("heldout", "primary"):
        x, labels = getattr(victim, f"{name}_x"), getattr(victim, f"{name}_labels")
        if (x is None) != (labels is None) or (x is not None and len(x) != len(labels)):
            raise InputError(f"victim.{name}_labels: need one for each row of {name}_x; give both")
    count = jnp.asarray(victim.count)
    if is_concrete(count) and not 1 <= int(count) <= pool:
        raise InputError(f"victim.count: needs 1 to {pool}, the rows of fit_x, got {int(count)}")
    width, head = width_of(victim), victim.head
    if head is not None and head.kernel.shape[0] != width:
        raise InputError(f"victim.head: needs a kernel of {width} rows, one a feature, got {head.kernel.shape}")


def _mapped(features: jax.Array, mapping: jax.Array | None) -> jax.Array:
    return features if mapping is None else product(features, mapping)
