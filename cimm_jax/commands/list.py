"""`cimm list`: everything that can be asked for by name, in a line each, as its docstring says it."""

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

from cimm_jax import data, networks, plugins
from cimm_jax.attacks import PREPARATIONS, SOLVERS, catalogue, known_optimizers
from cimm_jax.attacks.optimizers import about
from cimm_jax.commands.settings import OWN, List
from cimm_jax.data import registry as data_registry
from cimm_jax.errors import printable
from cimm_jax.methods import KNOWN
from cimm_jax.methods import registry as methods_registry

__all__ = ["LISTS", "run_list"]


def run_list(settings: List) -> None:
    """Prints what is asked for; an entry point that cannot be imported is named on standard error and left out."""
    found = {kind: dict(entries()) for kind, (_, entries) in LISTS.items() if kind in (settings.what or LISTS)}
    if settings.json:
        print(json.dumps(found, indent=2))
        return
    for number, (kind, lines) in enumerate(found.items()):
        if number:
            print()
        print(f"{kind} ({LISTS[kind][0]})")
        width = max(map(len, lines), default=0)
        for name, line in lines.items():
            print(f"  {printable(name):<{width}}  {printable(line)}".rstrip())


def _methods() -> Iterator[tuple[str, str]]:
    yield from ((name, _first_line(factory)) for name, factory in KNOWN.items())
    yield from _added(methods_registry.GROUP, "method", KNOWN)


def _attackers() -> Iterator[tuple[str, str]]:
    yield from ((name, _first_line(factory)) for name, factory in SOLVERS.items())
    yield from ((name, about(name)) for name in known_optimizers())
    yield from _added(catalogue.GROUP, "attackers", (*SOLVERS, *known_optimizers()))


def _heads() -> Iterator[tuple[str, str]]:
    from cimm_jax.attacks.heads.operators import HEADS

    yield from ((name, _first_line(head.build)) for name, head in HEADS.items())


def _data() -> Iterator[tuple[str, str]]:
    yield from ((known.name, known.description) for known in data.DATA_SETS)
    for name, added in plugins.loadable(data_registry.GROUP, "data"):
        yield name, getattr(added, "description", "")


def _networks() -> Iterator[tuple[str, str]]:
    for name in networks.NETWORKS:
        yield name, _described(networks.by_name(name))
    for name, added in plugins.loadable(networks.GROUP, "model"):
        if name not in networks.NETWORKS:
            yield name, _described(added) if hasattr(added, "input_shape") else _first_line(added)


def _described(config: Any) -> str:
    """A configuration of a network."""
    shape = " x ".join("any" if length is None else str(length) for length in config.input_shape)
    return f"{_first_line(type(config)).partition('.')[0]}: inputs of {shape}, {config.classes} classes"


LISTS: dict[str, tuple[str, Callable[[], Iterator[tuple[str, str]]]]] = {
    "methods": (f"--method, --methods; or {OWN}", _methods),
    "attackers": (f"--attackers; or {OWN}; alone, or after one of {', '.join(PREPARATIONS)} and a +", _attackers),
    "heads": ("on the rungs of cimm attack --ladder", _heads),
    "data": ("--data", _data),
    "networks": ("--model; or a checkpoint folder, or FILE.py:NAME", _networks),
}
"""What can be listed: how it is asked for, and names with lines."""


def _added(group: str, argument: str, known: Any) -> Iterator[tuple[str, str]]:
    """What packages added, but for names that the house has: its own come first."""
    yield from ((name, _first_line(it)) for name, it in plugins.loadable(group, argument) if name not in known)


def _first_line(thing: Any) -> str:
    """Of the docstring; of a function with some arguments given, these too."""
    given = ", ".join(f"{name}={value}" for name, value in getattr(thing, "keywords", {}).items())
    line = (inspect.getdoc(getattr(thing, "func", thing)) or "").partition("\n")[0]
    return f"{line} ({given})" if given else line
