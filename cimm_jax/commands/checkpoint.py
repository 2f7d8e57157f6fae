"""The progress of an interrupted sweep on disk, so that the same command continues it."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cimm_jax.files import write_json

SECONDS_BETWEEN_SAVES = 20.0

IRRELEVANT = ("out", "json", "pairs_at_once")
"""Settings that do not change the results: where they go, how they are printed, how much memory they were made in."""


class Checkpoint:
    """Saves the progress of a sweep now and then, and restores it if the same settings and versions made it.

    Two folders are written in turn, each whole (Orbax renames it into place), and a small file that names the newer one
    with the manifest of the sweep: whenever the process dies, that file points at a complete state.
    """

    def __init__(self, folder: Path, made_by: dict[str, Any]):
        self._folder = folder.absolute()
        self._index = self._folder / "checkpoint.json"
        settings = {key: value for key, value in made_by["settings"].items() if key not in IRRELEVANT}
        self._made_by = json.loads(json.dumps({**made_by, "settings": settings}))
        self._last_save = time.monotonic()

    def restore(self, like: Callable[[int], Any]) -> Any:
        """The saved progress, or None if there is none that the same settings and versions made.

        Args:
          like: shapes and dtypes of the progress, by the size that it was saved with.
        """
        if not self._index.exists():
            return None
        index = json.loads(self._index.read_text())
        if index["made_by"] != self._made_by:
            return None
        import orbax.checkpoint

        shapes = like(index["size"])
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            saved = checkpointer.restore(self._folder / index["state"], jax.eval_shape(_without_keys, shapes))
        return jax.tree.map(_with_key, shapes, saved)

    def save(self, progress: Any, size: int) -> None:
        """Saves the progress and what its shapes depend on, unless the last save was a moment ago."""
        if time.monotonic() - self._last_save < SECONDS_BETWEEN_SAVES:
            return
        import orbax.checkpoint

        self._folder.mkdir(exist_ok=True)
        former = json.loads(self._index.read_text())["state"] if self._index.exists() else ""
        name = "even" if former == "odd" else "odd"
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            checkpointer.save(self._folder / name, _without_keys(progress), force=True)
        write_json(self._index, {"state": name, "size": size, "made_by": self._made_by})
        self._last_save = time.monotonic()

    def remove(self) -> None:
        """Removes everything saved: the sweep is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(progress: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, progress)


def _with_key(like: Any, leaf: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(leaf) if _is_key(like) else leaf
