"""What others add by name: something in a Python file, `FILE.py:NAME`, or an entry point of a package that is installed.

Names of entry points are known without importing anything. A file or a package is imported when its name is asked for, so one
that is broken hurts nobody else.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from cimm_jax.errors import InputError, one_line
from cimm_jax.files import read_regular

__all__ = ["MARK", "MOST_BYTES", "factory", "find", "is_file", "loadable", "loaded", "names", "version_of", "warn"]

MARK = ".py:"
"""Stands between the file and the name in it."""

MOST_BYTES = 1 << 20
"""Of a Python file."""

_loaded: dict[str, str] = {}


def names(group: str) -> tuple[str, ...]:
    """Of the entry points of a group, in alphabetical order; imports nothing."""
    return tuple(sorted(_entry_points(group)))


def is_file(text: str) -> bool:
    """Whether a name is that of something in a Python file."""
    return MARK in text


def find(group: str, text: str, argument: str, *, files: bool = True) -> Any:
    """What somebody added under a name; None if nobody did.

    Args:
      group: of entry points.
      text: the name of one, or `FILE.py:NAME`.
      argument: what messages call it.
      files: whether a file will do. Not where the name may come from a record, which anybody may have written.

    Raises:
      InputError: if the file cannot be read, has no such name, or raises when it is imported, as the package may.
    """
    if files and is_file(text):
        return _from_file(text, argument)
    point = _entry_points(group).get(text)
    if point is None:
        return None
    try:
        found = point.load()
    except (Exception, SystemExit) as error:  # whatever somebody's package raises
        raise InputError(f"{argument}: {text!r} of {_package(point)} cannot be imported ({_said(error)})") from error
    _loaded[_package(point)] = point.dist.version if point.dist is not None else ""
    return found


def factory(
    group: str, text: str, argument: str, is_made: Callable[[Any], bool], wanted: str
) -> Callable[..., Any] | None:
    """A function that somebody added, which must make the right kind of thing; None if nobody added one of this name.

    Args:
      group: as in `find`.
      text: as in `find`.
      argument: as in `find`.
      is_made: whether what it returned is of the right kind.
      wanted: what messages call that.

    Raises:
      InputError: as `find`, and for what is no function. The function that comes back raises it where the one that was added
        raises anything, or makes something else.
    """
    found = find(group, text, argument)
    if found is None:
        return None
    try:
        inspect.signature(found)  # which settings it has is asked later
        hash(found)
    except (TypeError, ValueError) as error:
        kind = type(found).__name__
        raise InputError(f"{argument}: {text} needs to be a function that returns {wanted}, and is {kind}") from error
    return _checked(found, text, argument, is_made, wanted)


@lru_cache(maxsize=256)
def _checked(
    found: Callable[..., Any], text: str, argument: str, is_made: Callable[[Any], bool], wanted: str
) -> Callable[..., Any]:
    """The function, and what it makes looked at; the same one again, so that what was compiled is found."""

    @wraps(found)
    def made(*args: Any, **settings: Any) -> Any:
        try:
            thing = found(*args, **settings)
        except InputError:
            raise
        except Exception as error:  # whatever somebody's function raises
            raise InputError(f"{argument}: {text} cannot make {wanted} ({_said(error)})") from error
        if not is_made(thing):
            raise InputError(f"{argument}: {text} needs to return {wanted}, and returned {type(thing).__name__}")
        return thing

    return made


def loadable(group: str, argument: str) -> Iterator[tuple[str, Any]]:
    """Every entry point of a group with what it is; one that cannot be imported is named on standard error and left out."""
    for name in names(group):
        try:
            yield name, find(group, name, argument, files=False)
        except InputError as error:
            warn(error)


def warn(error: InputError) -> None:
    """Names on standard error what cannot be used, while the rest works."""
    print(f"cimm: warning: {error}; it is left out", file=sys.stderr)


def loaded() -> dict[str, str]:
    """What this process took from files and packages, with the files' checksums and the packages' versions."""
    return dict(_loaded)


def version_of(group: str, text: str) -> str:
    """What tells one version of something that was found from another: the checksum of its file, or its package and version."""
    if is_file(text):
        return _loaded.get(text, "")
    point = _entry_points(group).get(text)
    return "" if point is None or point.dist is None else f"{point.dist.name} {point.dist.version}"


@lru_cache
def _entry_points(group: str) -> dict[str, EntryPoint]:
    """By name; of two packages that use the same one, the first in alphabetical order has it."""
    found = sorted(entry_points(group=group), key=_package, reverse=True)
    return {point.name: point for point in found}


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def _from_file(text: str, argument: str) -> Any:
    file, _, name = text.rpartition(":")
    cure = f"give FILE.py:NAME, got {text!r}"
    source = read_regular(Path(file), argument, most=MOST_BYTES, cure=cure)
    try:
        module = _module(str(Path(file).resolve()), source)
    except (Exception, SystemExit) as error:  # whatever somebody's file raises
        raise InputError(f"{argument}: {file} cannot be imported ({_said(error)})") from error
    if not hasattr(module, name):
        public = [known for known, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise InputError(f"{argument}: {file} has no {name!r}; it has {', '.join(public) or 'nothing of its own'}")
    _loaded[text] = hashlib.sha256(source).hexdigest()
    return getattr(module, name)


@lru_cache
def _module(path: str, source: bytes) -> ModuleType:
    """The module of a file, once for each content; nothing is written beside the file, and its folder is not searched."""
    module = ModuleType(f"{Path(path).stem}_{hashlib.sha256(path.encode() + source).hexdigest()[:8]}")
    module.__file__ = path
    code = compile(source, path, "exec", dont_inherit=True)
    sys.modules[module.__name__] = module  # classes look for their module there
    try:
        exec(code, vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
