"""A network of somebody's own, in a Python file, `FILE.py:NAME`, or a package: whichever of three things the name is of.

* A configuration (`backbone.Config`), which can do all that ours can.
* A class or function with one argument `rngs`, which makes a Flax NNX module with `parts`, a dictionary of modules that are
  called in order as part(x, training), and perhaps `head`, an `nnx.Linear`. Weights are named as NNX does, `parts.a.kernel`.
* A function `features(params, x)`, with the tensors of the file of weights by name, which gives features of shape (N, d).

The last two say by an attribute `preprocess` what images go through first, in the words of `preprocessor_config.json`.
"""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax import plugins
from cimm_jax.data.tensor_file import FLOATS, Described
from cimm_jax.errors import InputError, few, one_line
from cimm_jax.networks.backbone import Backbone, Config
from cimm_jax.networks.hub_preprocess import preprocess_of
from cimm_jax.networks.json_fields import Fields
from cimm_jax.networks.key_maps import PLAIN, Entry, KeyMap
from cimm_jax.networks.layers import linear_head
from cimm_jax.networks.preprocess import Preprocess

__all__ = ["PREPROCESS", "FunctionPart", "OwnConfig", "Shapes", "own_config"]

PREPROCESS = "preprocess"
"""The attribute that says what images go through first."""

_KINDS = "a configuration of a network, NAME(rngs) that makes an NNX module, or features(params, x)"
_FUNCTION = "function"
"""The one part of a network that is a function."""

Shapes: TypeAlias = tuple[tuple[str, tuple[int, ...]], ...]
"""Of tensors, by name."""


@dataclass(frozen=True)
class OwnConfig:
    """A network of somebody's own.

    Attributes:
      name: of it, as it was asked for.
      group: of entry points where it may be.
      version: checksum of its file, or its package and version, on which what is cached depends.
      shapes: of its parameters, by name; None for a module, which knows them.
      features: length of a feature row.
      classes: outputs of the head; 0 if there is none.
      preprocess: what images go through first.
      names: key map for exports.
    """

    name: str
    group: str
    version: str
    shapes: Shapes | None
    features: int
    classes: int
    preprocess: Preprocess
    names: str = "own"

    @property
    def key_maps(self) -> tuple[KeyMap, ...]:
        """Its own names."""
        return (KeyMap("own", _function_entries if self.shapes is not None else _module_entries),)

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Images of the size that it is said to take."""
        return (self.preprocess.size, self.preprocess.size, len(self.preprocess.mean))

    def build(self, rngs: nnx.Rngs) -> Backbone:
        """The network with fresh parameters; those of a function are normal, over the square root of what each output sums."""
        found = plugins.find(self.group, self.name, "model")
        if self.shapes is not None:
            part = FunctionPart(self.shapes, found, rngs=rngs)
            return Backbone(self, {_FUNCTION: part}, linear_head(self.features, 0, rngs=rngs))
        parts, head = _taken_apart(self.name, found, rngs)
        return Backbone(self, parts, linear_head(self.features, 0, rngs=rngs) if head is None else head)


class FunctionPart(nnx.Module):
    """A function of parameters as the one part of a network."""

    def __init__(self, shapes: Shapes, function: Callable[[Any, jax.Array], jax.Array], *, rngs: nnx.Rngs):
        self.function = function
        self.params = nnx.Dict({name: nnx.Param(_drawn(rngs.params(), shape)) for name, shape in shapes})

    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        """Shape (N, height, width, channels) -> (N, features); the same in training."""
        del training
        return self.function({name: value[...] for name, value in self.params.items()}, x)


def own_config(group: str, name: str, tensors: Mapping[str, Described]) -> Config:
    """The configuration of a network of somebody's own, with these weights.

    Args:
      group: of entry points.
      name: of one, or `FILE.py:NAME`. The file is run.
      tensors: what its weights hold.

    Raises:
      InputError: as `plugins.find`, or if it is no network, does not say what images go through first, or raises anything or
        gives something else than features when it is tried.
    """
    found = plugins.find(group, name, "model")
    if hasattr(found, "build") and hasattr(found, "key_maps"):
        return found
    if not callable(found):
        raise InputError(f"model: {name} needs to be {_KINDS}, and is {type(found).__name__}")
    arguments = _arguments(name, found)
    if arguments != ["rngs"] and len(arguments) != 2:
        raise InputError(f"model: {name} has the arguments {few(arguments)}; it needs to be {_KINDS}")
    draft = OwnConfig(name, group, plugins.version_of(group, name), None, 0, 0, _preprocess(name, found))
    return _of_module(draft, found) if arguments == ["rngs"] else _of_function(draft, found, tensors)


def _arguments(name: str, found: Any) -> list[str]:
    """Those without a default."""
    try:
        # NNX's classes of classes hide the arguments of their constructors.
        called = partial(found.__init__, None) if isinstance(found, type) else found
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(f"model: {name} needs to be {_KINDS}, and is {type(found).__name__}") from error
    return [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]


def _preprocess(name: str, found: Any) -> Preprocess:
    said = getattr(found, PREPROCESS, None)
    if isinstance(said, Preprocess):
        return said
    if not isinstance(said, Mapping):
        raise InputError(
            f"model: {name} does not say what images go through first; give it an attribute {PREPROCESS}, such as "
            '{"size": 224, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
        )
    return preprocess_of(Fields(said, f"{PREPROCESS} of {name}"), "vit")


def _of_module(draft: OwnConfig, found: Any) -> OwnConfig:
    def made() -> tuple[dict[str, nnx.Module], nnx.Linear | None]:
        return _taken_apart(draft.name, found, nnx.Rngs(0))

    def through(x: jax.Array) -> jax.Array:
        for part in made()[0].values():
            x = cast(Any, part)(x, False)
        return x

    width = _width(draft, through)
    head = nnx.eval_shape(made)[1]
    if head is not None and (head.bias is None or head.in_features != width):
        raise InputError(
            f"model: {draft.name} has a head on {head.in_features} features{'' if head.bias else ' without a bias'}, and its "
            f"parts make {width}; it needs to be nnx.Linear({width}, classes)"
        )
    config = dataclasses.replace(draft, features=width, classes=0 if head is None else head.out_features)
    flat = nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))))
    strange = [".".join(map(str, path)) for path, value in flat if not isinstance(value, nnx.Param | nnx.BatchStat)]
    if strange:
        raise InputError(
            f"model: {draft.name} keeps something else than parameters and statistics, {few(sorted(strange))}; leave out "
            "dropout and other random layers"
        )
    return config


def _of_function(draft: OwnConfig, found: Any, tensors: Mapping[str, Described]) -> OwnConfig:
    strange = sorted(key for key, of in tensors.items() if of.dtype not in FLOATS)
    if strange:
        raise InputError(f"weights: have tensors that are no floating-point numbers: {few(strange)}; leave them out")
    shapes = tuple((key, tensors[key].shape) for key in sorted(tensors))
    params = {key: jnp.zeros(shape, jnp.float32) for key, shape in shapes}
    return dataclasses.replace(draft, shapes=shapes, features=_width(draft, lambda x: found(params, x)))


def _width(draft: OwnConfig, features: Callable[[jax.Array], jax.Array]) -> int:
    """Features of one image; somebody's code is tried on the shape of two."""
    images = jax.ShapeDtypeStruct((2, *draft.input_shape), jnp.float32)
    try:
        made = nnx.eval_shape(features, images)
    except InputError:
        raise
    except Exception as error:  # whatever somebody's code raises
        told = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"model: {draft.name} cannot be used on images of shape {images.shape} ({told})") from error
    shape, dtype = getattr(made, "shape", None), getattr(made, "dtype", None)
    if shape is None or len(shape) != 2 or shape[0] != 2 or dtype != jnp.float32:
        got = type(made).__name__ if shape is None else f"{dtype} of shape {shape}"
        raise InputError(f"model: {draft.name} makes {got} of two images; features are float32 of shape (2, d)")
    return shape[1]


def _taken_apart(name: str, found: Any, rngs: nnx.Rngs) -> tuple[dict[str, nnx.Module], nnx.Linear | None]:
    """Parts by name, in order, and the head, of a module that somebody's class or function makes."""
    made = found(rngs=rngs)
    parts, head = getattr(made, "parts", None), getattr(made, "head", None)
    if not parts or not hasattr(parts, "items"):
        raise InputError(
            f"model: {name} makes {type(made).__name__} without parts; they need to be an nnx.Dict of modules"
        )
    if head is not None and not isinstance(head, nnx.Linear):
        raise InputError(f"model: {name} has {type(head).__name__} as its head; it needs to be an nnx.Linear, or none")
    return dict(parts.items()), head


def _drawn(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(key, shape, jnp.float32) / max(math.prod(shape[:-1]), 1) ** 0.5


def _function_entries(config: OwnConfig) -> list[Entry]:
    return [Entry(name, (("parts", _FUNCTION, "params", name),), PLAIN) for name, _ in config.shapes or ()]


def _module_entries(config: OwnConfig) -> list[Entry]:
    state = nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: config.build(nnx.Rngs(0)))))
    kept = [tuple(map(str, path)) for path, _ in state if config.classes or path[0] != "head"]
    return [Entry(".".join(path), (path,), PLAIN) for path in kept]
