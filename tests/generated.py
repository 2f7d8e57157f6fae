"""Values made from type hints by a seeded generator, and what differs from a value of a type."""

import types
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

WORDS = ("keep", "a b", "", "0", "nan", "<b>|`é\n", "NaN-like", "null")
NUMBERS = (0.0, -0.0, 1.5, -1e300, 5e-324, float("nan"), float("inf"), float("-inf"), 0.1)


def fields_of(kind: Any) -> dict[str, Any]:
    """The type hints of a record type's fields by name; empty for a type that has none."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return {field.name: hints[field.name] for field in fields(kind)}
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return get_type_hints(kind)
    return {}


def alternatives(hint: Any) -> tuple[Any, ...]:
    """Of a union; a type alone is the only one."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def made(hint: Any, rng: np.random.Generator) -> Any:
    """Any value of a type: every branch of a union, numbers that JSON has no word for, arrays of every kind and shape."""
    if len(of := alternatives(hint)) > 1:
        return made(of[rng.integers(len(of))], rng)
    if named := fields_of(hint):
        return hint(**{name: made(of, rng) for name, of in named.items()})
    if hint in _MAKERS:
        return _MAKERS[hint](rng)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is dict:
        return {
            f"{WORDS[rng.integers(len(WORDS))]}{place}": made(arguments[1], rng) for place in range(rng.integers(3))
        }
    assert origin is tuple, hint
    if arguments[-1] is Ellipsis:
        return tuple(made(arguments[0], rng) for _ in range(rng.integers(4)))
    return tuple(made(argument, rng) for argument in arguments)


def _array(rng: np.random.Generator) -> np.ndarray:
    shape = tuple(rng.integers(1, 4, rng.integers(4)))
    kind = rng.integers(3)
    if kind == 0:
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(-(2**62), 2**62, shape) if kind == 1 else rng.choice(NUMBERS, shape)


_MAKERS = {
    Any: lambda rng: [None, 3, "x", (1.5, "keep"), [], {"a": float("inf")}, Path("a/b"), True][rng.integers(8)],
    bool: lambda rng: bool(rng.integers(2)),
    int: lambda rng: int(rng.integers(-(2**62), 2**62)),
    float: lambda rng: float(rng.choice(NUMBERS)),
    str: lambda rng: WORDS[rng.integers(len(WORDS))],
    Path: lambda rng: Path("folder") / WORDS[rng.integers(2)],
    type(None): lambda rng: None,
    np.ndarray: _array,
    jax.Array: lambda rng: jnp.asarray(_array(rng)) if rng.integers(16) == 0 else _array(rng),
}


def other(value: Any) -> Any:
    """Another value of the same type, wherever that is possible in it: keys and lengths stay."""
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return np.reshape([other(item) for item in array.ravel().tolist()], array.shape)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{name: other(getattr(value, name)) for name in fields_of(type(value))})
    if isinstance(value, dict):
        return {key: other(item) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [other(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return next(change(value) for kind, change in _CHANGES if isinstance(value, kind))


_CHANGES = (
    (bool, lambda value: not value),
    (int, lambda value: value + 1),
    (float, lambda value: value * 0.75 + 0.0625 if np.isfinite(value) else 0.625),
    (Path, lambda value: Path(f"{value}x")),
    (str, lambda value: f"{value}x"),
    (type(None), lambda value: None),
)
