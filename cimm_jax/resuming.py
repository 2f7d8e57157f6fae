"""Long work that is cut off goes on where it was, if the same things make it: one comparison for every kind of it.

`made_by` is everything that a result depends on, as JSON has it. What something else made is never mixed in.
"""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from cimm_jax.files import output_folder, write_json

__all__ = ["Checkpoint", "MadeBy"]


class MadeBy:
    """A JSON file that says what made it.

    Args:
      path: of the file; it need not exist.
      made_by: what its content depends on.
    """

    def __init__(self, path: Path, made_by: Any):
        self.path = path
        self._made_by = json.loads(json.dumps(made_by))

    def read(self) -> Any:
        """The content, or None if there is none, it is damaged, or something else made it."""
        found = self._found()
        return found.get("content") if found.get("made_by") == self._made_by else None

    def read_whoever_made_it(self) -> Any:
        """The content, whatever made it; None if there is none or it is damaged."""
        return self._found().get("content")

    def write(self, content: Any) -> None:
        """Writes the content, whole or not at all."""
        write_json(self.path, {"made_by": self._made_by, "content": content})

    def _found(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


class Checkpoint:
    """The state of long work in a folder: saved whole, and restored only if the same things made it.

    Two folders are written in turn, each whole (Orbax renames it into place), and a small file names the newer one: whenever
    the process dies, that file points at a complete state.

    Args:
      folder: made if need be.
      made_by: what the state depends on.
      seconds_between_saves: saves that come sooner after the last one are left out.
    """

    def __init__(self, folder: Path, made_by: Any, *, seconds_between_saves: float = 0.0):
        self._folder = output_folder(folder.absolute(), "checkpoint")
        self._index = MadeBy(self._folder / "checkpoint.json", made_by)
        self._seconds, self._last_save = seconds_between_saves, time.monotonic()

    def restore(self, like: Callable[[dict[str, Any]], Any]) -> tuple[Any, dict[str, Any]] | None:
        """The saved state and notes, or None if nothing was saved that the same things made.

        Args:
          like: notes -> a state of the same structure, or its shapes and dtypes.
        """
        index = self._index.read()
        if index is None:
            return None
        import orbax.checkpoint

        shapes = like(index["notes"])
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            saved = checkpointer.restore(self._folder / index["state"], jax.eval_shape(_without_keys, shapes))
        return jax.tree.map(_with_key, shapes, saved), index["notes"]

    def save(self, state: Any, notes: dict[str, Any]) -> None:
        """Saves a state, and notes as JSON has them, unless the last save was a moment ago."""
        if time.monotonic() - self._last_save < self._seconds:
            return
        import orbax.checkpoint

        # Whoever made the other state, the file goes on naming it until this one is whole.
        former = self._index.read_whoever_made_it() or {}
        name = "even" if former.get("state") == "odd" else "odd"
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            checkpointer.save(self._folder / name, _without_keys(state), force=True)
        self._index.write({"state": name, "notes": notes})
        self._last_save = time.monotonic()

    def remove(self) -> None:
        """Removes everything saved: the work is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(state: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _with_key(like: Any, leaf: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(leaf) if _is_key(like) else leaf
