"""The state of tail training on disk, saved after each epoch."""

import json
from pathlib import Path
from typing import Any

from cimm_jax.files import output_folder, write_json


class TailCheckpoint:
    """Saves states in a folder, and restores the last one if the same things made it.

    Two folders are written in turn, each whole (Orbax renames it into place); a small file names the newer one.

    Args:
      folder: made if need be.
      made_by: what the state depends on, as JSON has it.
    """

    def __init__(self, folder: Path, made_by: dict[str, Any]):
        self._folder = output_folder(folder.absolute(), "checkpoint")
        self._index = self._folder / "checkpoint.json"
        self._made_by = json.loads(json.dumps(made_by))

    def save(self, state: Any, epoch: int, history: dict[str, Any]) -> None:
        """Saves the state after an epoch, with what was recorded so far, as JSON has it."""
        import orbax.checkpoint

        name = "even" if epoch % 2 == 0 else "odd"
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            checkpointer.save(self._folder / name, state, force=True)
        write_json(self._index, {"state": name, "epoch": epoch, "history": history, "made_by": self._made_by})

    def restore(self, like: Any) -> tuple[Any, int, dict[str, Any]] | None:
        """(state, epochs done, history), or None if nothing was saved that the same things made.

        Args:
          like: a state of the same structure.
        """
        if not self._index.exists():
            return None
        index = json.loads(self._index.read_text())
        if index["made_by"] != self._made_by:
            return None
        import orbax.checkpoint

        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            state = checkpointer.restore(self._folder / index["state"], like)
        return state, index["epoch"], index["history"]
