"""cimm_jax: model immunization in JAX.

Make a feature extractor hard to fine-tune for a harmful task while its primary task stays as good and as easy, and
measure how hard. Everything is pure functions on arrays and pytrees. Use float64 (`jax.enable_x64(True)`) where the answer
is a condition number.
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from cimm_jax._public import *  # noqa: F403


def __getattr__(name: str) -> _Any:
    """A module of the package, or what `_public` shows: the command line answers to Ctrl-C before JAX is imported."""
    if not name.startswith("_") and _find_spec(f"{__name__}.{name}") is not None:
        return _import_module(f"{__name__}.{name}")
    public = _import_module(f"{__name__}._public")
    try:
        return getattr(public, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
