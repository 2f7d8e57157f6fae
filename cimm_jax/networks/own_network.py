"""A network of somebody's own, in a Python file, `FILE.py:NAME`, or a package: whichever of three things the name is of.

* A configuration (`backbone.Config`), which can do all that ours can.
* A class or function with one argument `rngs`, which makes a Flax NNX module with `parts`, a dictionary of modules that are
  called in order as part(x, training), and perhaps `head`, an `nnx.Linear`. Weights are named as NNX names them, `parts.a.kernel`.
* A function `features(params, x)`, with the tensors of the file of weights by name, which gives features of shape (N, d).

The last two say by an attribute `preprocess` what images go through first, in the words of `preprocessor_config.json`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

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
from cimm_jax.networks.preprocess import Preprocess

__all__ = ["PREPROCESS", "FunctionPart", "OwnConfig", "own_config"]

PREPROCESS = "preprocess"
"""The attribute that says what images go through first."""

_KINDS = "a configuration of a network, NAME(rngs) that makes an NNX module, or features(params, x)"
_FUNCTION = "features"
"""The one part of a network that is a function."""

_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class OwnConfig:
    """A network of somebody's own.

    Attributes:
      name: of it, as it was asked for.
      group: of entry points where it may be.
      version: checksum of its file, or version of its package.
      shapes: of its parameters, by name; None for a module, which knows them.
      features: length of a feature row.
      classes: outputs of the head; 0 if there is none.
      preprocess: what images go through first.
      names: key map for exports.
    """

    name: str
    group: str
    version: str
    shapes: _Shapes | None
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
            head = nnx.Linear(self.features, 0, rngs=rngs)
            return Backbone(self, {_FUNCTION: FunctionPart(self, found, rngs=rngs)}, head)
        parts, head = _taken_apart(self.name, found, rngs)
        return Backbone(self, parts, nnx.Linear(self.features, 0, rngs=rngs) if head is None else head)


class FunctionPart(nnx.Module):
    """A function of parameters as the one part of a network."""

    def __init__(self, config: OwnConfig, function: Callable[[Any, jax.Array], jax.Array], *, rngs: nnx.Rngs):
        assert config.shapes is not None  # those who ask have looked
        self.function = function
        self.params = nnx.Dict({name: nnx.Param(_drawn(rngs.params(), shape)) for name, shape in config.shapes})

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
    if isinstance(found, type) is False and hasattr(found, "build"):
        return found
    if not callable(found):
        raise InputError(f"model: {name} needs to be {_KINDS}, and is {type(found).__name__}")
    arguments = _arguments(name, found)
    preprocess = _preprocess(name, found)
    version = plugins.loaded().get(name, "")
    draft = OwnConfig(name, group, version, None, 0, 0, preprocess)
    if arguments == ["rngs"]:
        return _of_module(draft, found)
    if len(arguments) == 2:
        return _of_function(draft, found, tensors)
    raise InputError(f"model: {name} has the arguments {few(arguments)}; it needs to be {_KINDS}")


def _arguments(name: str, found: Any) -> list[str]:
    """Those without a default."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError) as error:
        raise InputError(f"model: {name} needs to be {_KINDS}, and is {type(found).__name__}") from error
    return [one.name for one in parameters if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)]


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

    parts, head = cast(Any, _tried(draft.name, lambda: nnx.eval_shape(made)))
    if head is not None and head.bias is None:
        raise InputError(f"model: {draft.name} has a head without a bias; give it one")
    width = _width(draft, lambda x: _chained(made()[0], x))
    if head is not None and head.in_features != width:
        raise InputError(f"model: {draft.name} has a head on {head.in_features} features, and its parts make {width}")
    classes = 0 if head is None else head.out_features
    config = dataclasses.replace(draft, features=width, classes=classes)
    state = nnx.state(nnx.eval_shape(lambda: config.build(nnx.Rngs(0))))
    strange = [".".join(path) for path, value in nnx.to_flat_state(state) if not _is_stored(value)]
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
    params = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in shapes}
    width = _width(draft, lambda x: found(params_of, x), params) if False else _function_width(draft, found, params)
    return dataclasses.replace(draft, shapes=shapes, features=width)


def _taken_apart(name: str, found: Any, rngs: nnx.Rngs) -> tuple[dict[str, nnx.Module], nnx.Linear | None]:
    """Parts by name, in order, and the head, of a module that somebody's class or function makes."""
    made = found(rngs=rngs)
    parts, head = getattr(made, "parts", None), getattr(made, "head", None)
    if not parts or not hasattr(parts, "items"):
        raise InputError(f"model: {name} makes {type(made).__name__}, which has no parts; give it nnx.Dict(name=module, ...)")
    if head is not None and not isinstance(head, nnx.Linear):
        raise InputError(f"model: {name} has {type(head).__name__} as its head; it needs to be an nnx.Linear, or none")
    return dict(parts.items()), head


def _drawn(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    summed = 1
    for length in shape[:-1]:
        summed *= length
    return jax.random.normal(key, shape, jnp.float32) / max(summed, 1) ** 0.5
