"""A feature extractor is a chain of named parts, so that it can be cut before any of them.

What stands before the cut is the frozen trunk, what stands after it the tail that is trained:

    x --trunk(cut)--> activations --tail(cut)--> features --head--> logits
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.errors import InputError
from cimm_jax.networks.key_maps import KeyMap
from cimm_jax.networks.preprocess import Preprocess
from cimm_jax.networks.rows import Rows
from cimm_jax.networks.tokens import Tokens

__all__ = ["FEATURES", "Backbone", "Config", "Part"]

FEATURES = "features"
"""The last cut: behind every part, so that the tail is empty and only the head is left."""


class Config(Protocol):
    """What the configuration of each architecture, a frozen dataclass, can be asked."""

    @property
    def classes(self) -> int:
        """Outputs of the head; 0 where the network has none."""
        ...

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """What each publisher of such networks calls their tensors."""
        ...

    @property
    def names(self) -> str:
        """Which key map `export_weights` writes under."""
        ...

    @property
    def preprocess(self) -> Preprocess | Tokens | Rows:
        """What its images, texts or rows go through first."""
        ...

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of one input; None where any length will do. One that is a row takes images too, and flattens them."""
        ...

    def build(self, rngs: nnx.Rngs) -> "Backbone":
        """The network with fresh parameters, float32."""
        ...


class Part(Protocol):
    """One link of the chain."""

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """The next activations; `training` normalises by the batch and updates the stored statistics."""
        ...


def _pooled(x: jax.Array) -> jax.Array:
    if x.ndim == 4:
        return jnp.mean(x, axis=(1, 2))
    return jnp.concatenate([x[:, 0], jnp.mean(x, axis=1)], axis=1) if x.ndim == 3 else x


class Backbone(nnx.Module):
    """A chain of parts and a head.

    Stored statistics are used for normalisation, as when the network is served, unless `training=True` asks for those
    of the batch. Dropout and stochastic depth are left out: frozen or fine-tuned features are wanted exact.

    Attributes:
      config: what it was built from.
      parts: the parts by name.
      cuts: names of the cut points: the part that would come first in the tail, in order, and "features".
      head: from features to logits.
    """

    def __init__(self, config: Config, parts: Mapping[str, nnx.Module], head: nnx.Linear):
        self.config = config
        self.parts = nnx.Dict(parts)
        self.cuts = (*parts, FEATURES)  # the order; nnx sorts the names of `parts` when it takes a module apart
        self.head = head

    def __call__(self, x: jax.Array, *, training: bool = False) -> jax.Array:
        """Logits, shape (N, classes), of what `features` takes."""
        return self.head(self.features(x, training=training))

    def features(self, x: jax.Array, *, training: bool = False) -> jax.Array:
        """Features, shape (N, D).

        Args:
          x: preprocessed inputs of the parameters' dtype, shape (N, height, width, channels), or (N, inputs) for the
            linear extractor.
          training: normalise by this batch, and update the stored statistics.

        Raises:
          InputError: if x has another dtype or shape.
        """
        return self.trunk(x, FEATURES, training=training)

    def trunk(self, x: jax.Array, cut: str, *, training: bool = False) -> jax.Array:
        """Activations at the cut; arguments as in `features`.

        Raises:
          InputError: as `features`, or if there is no such cut.
        """
        end = self._position(cut)
        self._check_inputs(x)
        return self._run(x, self.cuts[:end], training)

    def tail(self, activations: jax.Array, cut: str, *, training: bool = False) -> jax.Array:
        """Features, shape (N, D), of the activations at the cut: `tail(trunk(x, cut), cut)` is `features(x)`.

        Raises:
          InputError: if there is no such cut, or the activations have another dtype than the parameters.
        """
        start = self._position(cut)
        self._check_dtype(activations, "activations")
        return self._run(activations, self.cuts[start:-1], training)

    def pooled(self, x: jax.Array) -> dict[str, jax.Array]:
        """What every part makes of x, pooled to rows, by part in order; the last are the features.

        Maps of shape (N, height, width, C) become their means, (N, C); tokens of shape (N, T, D), the first of which is that of
        the class, become the first and the mean, (N, 2 D); rows stay what they are. A part that has a method `pooled` does it
        itself.

        Args:
          x: as in `features`.

        Raises:
          InputError: as `features`.
        """
        self._check_inputs(x)
        return self.pooled_tail(x, self.cuts[0])

    def pooled_tail(self, activations: jax.Array, cut: str) -> dict[str, jax.Array]:
        """What every part of the tail makes of the activations at its cut, as `pooled`.

        Raises:
          InputError: as `tail`.
        """
        start = self._position(cut)
        self._check_dtype(activations, "activations")
        found = {}
        for name in self.cuts[start:-1]:
            activations = self._run(activations, (name,), False)
            found[name] = getattr(self.parts[name], "pooled", _pooled)(activations)
        return found

    def in_tail(self, cut: str) -> Callable[[tuple[Any, ...], Any], bool]:
        """A filter for `nnx.split`, `nnx.state` or `nnx.Optimizer(wrt=...)`: (path, value) -> is it in the tail?

        The head is in no tail. Combine it: `nnx.All(nnx.Param, model.in_tail("layer4.0"))`.

        Raises:
          InputError: if there is no such cut.
        """
        tail = frozenset(self.cuts[self._position(cut) : -1])

        def accept(path: tuple[Any, ...], value: Any) -> bool:
            del value
            return path[0] == "parts" and path[1] in tail

        return accept

    def _run(self, x: jax.Array, names: tuple[str, ...], training: bool) -> jax.Array:
        for name in names:
            part: Any = self.parts[name]
            x = part(x, training)
        return x

    def _position(self, cut: str) -> int:
        if cut not in self.cuts:
            raise InputError(f"cut: {cut!r} is unknown; choose one of {', '.join(self.cuts)}")
        return self.cuts.index(cut)

    def _check_inputs(self, x: jax.Array) -> None:
        self._check_dtype(x, "x")
        expected, got = self.config.input_shape, tuple(x.shape[1:])
        if len(expected) == 1:
            got = (math.prod(got),)
        if len(got) != len(expected) or any(n not in (None, m) for n, m in zip(expected, got, strict=True)):
            lengths = ", ".join("any" if length is None else str(length) for length in expected)
            raise InputError(f"x: needs shape (N, {lengths}), got {tuple(x.shape)}; see the configuration's preprocess")

    def _check_dtype(self, x: jax.Array, argument: str) -> None:
        dtype = self.head.kernel.dtype
        if x.dtype != dtype:
            raise InputError(
                f"{argument}: needs the parameters' dtype {dtype}, got {x.dtype}; preprocess or cast it first"
            )
