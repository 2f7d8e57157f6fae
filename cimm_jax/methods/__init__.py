"""Immunization methods on one protocol (`Method`): a function of its settings that returns a method, usable with none.

A new method is one file that builds a `Method`, and one line in `BY_NAME`.
"""

from collections.abc import Callable

from cimm_jax.closed_form.allocation import LargestKappa, SignalAware
from cimm_jax.errors import InputError
from cimm_jax.methods._algorithm1 import algorithm1
from cimm_jax.methods._ill_only import ill_only
from cimm_jax.methods._imma import imma
from cimm_jax.methods._opt_kappa import opt_kappa
from cimm_jax.methods._pencil import pencil
from cimm_jax.methods._sweep import sweep
from cimm_jax.methods.penalised import HessianFrom, default_optimizer
from cimm_jax.methods.protocol import Info, Method
from cimm_jax.methods.run import Immunized, immunize

BY_NAME: dict[str, Callable[..., Method]] = {
    "algorithm1": algorithm1,
    "ill_only": ill_only,
    "opt_kappa": opt_kappa,
    "imma": imma,
    "pencil": pencil,
}
"""What the command line knows, by the name it is asked for."""


def by_name(name: str) -> Callable[..., Method]:
    """The method's function; raises `InputError` with the known names if there is none."""
    if name not in BY_NAME:
        raise InputError(f"method: {name!r} is unknown; choose one of {', '.join(BY_NAME)}")
    return BY_NAME[name]


__all__ = [
    "BY_NAME",
    "HessianFrom",
    "Immunized",
    "Info",
    "LargestKappa",
    "Method",
    "SignalAware",
    "algorithm1",
    "by_name",
    "default_optimizer",
    "ill_only",
    "imma",
    "immunize",
    "opt_kappa",
    "pencil",
    "sweep",
]
