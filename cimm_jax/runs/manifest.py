"""How a result was made, as every record says it."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from cimm_jax import plugins
from cimm_jax.runs.records import SCHEMA, Manifest

__all__ = ["PACKAGES", "make_manifest", "versions"]

PACKAGES = ("cimm_jax", "jax", "jaxlib", "optax", "numpy")


def make_manifest(
    command: str, settings: Mapping[str, Any], *, command_line: str = "", data_sha256: Mapping[str, str] | None = None
) -> Manifest:
    """The manifest of a result that is made now.

    Args:
      command: name of the command whose record it is.
      settings: by name, the default ones included.
      command_line: what makes the result again.
      data_sha256: checksums of what it is computed from, by path.
    """
    return Manifest(SCHEMA, command, command_line, dict(settings), versions(), dict(data_sha256 or {}))


def versions() -> dict[str, str]:
    """Of what results are computed with, by name; of Python files that people gave, checksums."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}, **plugins.loaded()}
