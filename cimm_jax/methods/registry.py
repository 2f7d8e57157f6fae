"""Every method by name. A new one is one file that builds a `Method`, and one line here."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cimm_jax import plugins
from cimm_jax.errors import InputError
from cimm_jax.methods._algorithm1 import algorithm1
from cimm_jax.methods._best_response import best_response
from cimm_jax.methods._encoderlock import encoderlock
from cimm_jax.methods._erase import erase
from cimm_jax.methods._hsic import hsic
from cimm_jax.methods._ill_only import ill_only
from cimm_jax.methods._imma import imma
from cimm_jax.methods._ntl import ntl
from cimm_jax.methods._opt_kappa import opt_kappa
from cimm_jax.methods._pencil import pencil, pencil_no_slower, pencil_signal
from cimm_jax.methods._sophon import sophon
from cimm_jax.methods._undo import undo
from cimm_jax.methods.protocol import Method

__all__ = ["BY_NAME", "GROUP", "KNOWN", "PRESETS", "REMOVING", "build_methods", "by_name", "method_names"]

BY_NAME: dict[str, Callable[..., Method]] = {
    "algorithm1": algorithm1,
    "ill_only": ill_only,
    "opt_kappa": opt_kappa,
    "imma": imma,
    "pencil": pencil,
}
"""What is compared with each other unless others are named."""

PRESETS: dict[str, Callable[..., Method]] = {"pencil_signal": pencil_signal, "pencil_no_slower": pencil_no_slower}
"""The same closed form with other defaults: it knows the labels."""

REMOVING: dict[str, Callable[..., Method]] = {
    "erase": erase,
    "best_response": best_response,
    "hsic": hsic,
    "sophon": sophon,
    "ntl": ntl,
    "encoderlock": encoderlock,
    "undo": undo,
}
"""What takes information away, and needs labels of several classes to do so; the others change how fast it is found."""

KNOWN = MappingProxyType({**BY_NAME, **PRESETS, **REMOVING})
"""Every method of the house."""

GROUP = "cimm_jax.methods"
"""Entry points under which packages add methods: functions of keyword settings that return a `Method`, usable with none."""


def method_names() -> tuple[str, ...]:
    """Every method that can be asked for by name: those of the house, and of packages that are installed."""
    return tuple(dict.fromkeys((*KNOWN, *plugins.names(GROUP))))


def by_name(name: str) -> Callable[..., Method]:
    """The method's function.

    Args:
      name: one of `method_names`, or `FILE.py:NAME`, a function in a Python file that returns a `Method`.

    Raises:
      InputError: with the known names if there is none, or if the file or the package cannot be used (`plugins.factory`).
    """
    if name in KNOWN:
        return KNOWN[name]
    own = plugins.factory(GROUP, name, "method", _is_method, "a cimm_jax.methods.Method")
    if own is None:
        raise InputError(
            f"method: {name!r} is unknown; choose one of {', '.join(method_names())}, or give FILE.py:NAME"
        )
    return own


def _is_method(made: Any) -> bool:
    return isinstance(made, Method)


def build_methods(
    names: Sequence[str], given: Mapping[str, Any], defaults: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Method]:
    """Methods by name, each with those settings that it has.

    Args:
      names: as `by_name` takes them, each once.
      given: settings that somebody asked for by name.
      defaults: settings for those methods that have them.

    Raises:
      InputError: if a method is unknown or repeats, or a setting that was given belongs to none of them or is out of range.
    """
    if not names:
        raise InputError("methods: is empty; give at least one")
    if len(set(names)) < len(names):
        raise InputError(f"methods: {', '.join(names)} repeats a name; give each once")
    factories = {name: by_name(name) for name in names}
    has = {name: inspect.signature(factory).parameters.keys() for name, factory in factories.items()}
    for setting in given:
        if not any(setting in parameters for parameters in has.values()):
            raise InputError(f"{setting}: is no setting of {' or '.join(names)}; leave it out")
    settings = {**defaults, **given}
    return {
        name: factory(**{key: value for key, value in settings.items() if key in has[name]})
        for name, factory in factories.items()
    }
