"""Long work that is cut off goes on where it was, if the same things make it: one comparison for every kind of it.

`made_by` is everything that a result depends on, as JSON has it. What something else made is never mixed in.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax import interruption
from cimm_jax.errors import InputError, one_line, printable
from cimm_jax.files import read_regular, reason_of, write_whole
from cimm_jax.locks import Hold

__all__ = ["Checkpoint", "MadeBy", "checksum"]

SLOTS = ("even", "odd")
"""Folders that states are saved in by turns."""

LARGEST = 1 << 30
"""Bytes of a file of notes that are read."""


class MadeBy:
    """A JSON file that says what made it. Numbers that are not finite come back as what they were, and NaN equals NaN.

    Args:
      path: of the file; it need not exist.
      made_by: what its content depends on.
    """

    def __init__(self, path: Path, made_by: Any):
        self.path, self._made_by = path, made_by

    def read(self) -> Any:
        """The content, or None if there is none, it is damaged, or something else made it."""
        found = self._found()
        return found.get("content") if _comparable(found.get("made_by")) == _comparable(self._made_by) else None

    def read_whoever_made_it(self) -> Any:
        """The content, whatever made it; None if there is none or it is damaged."""
        return self._found().get("content")

    def write(self, content: Any) -> None:
        """Writes the content, whole or not at all; arrays become lists."""
        write_whole(self.path, _json({"made_by": self._made_by, "content": content}) + "\n")

    def _found(self) -> dict[str, Any]:
        try:
            found = json.loads(read_regular(self.path, "made_by", most=LARGEST, cure="remove it"))
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class Checkpoint:
    """The state of long work in a folder: saved whole, and restored only if the same things made it.

    Two slots are written by turns, each a state that Orbax renames into place and then a small file that says what made it, and
    what a whole state looks like. A state without such a file, or that differs from it, counts for nothing: whenever the
    process dies, the other slot is whole. Other processes are kept from the folder until this object is gone.

    Args:
      folder: made if need be.
      made_by: what the state depends on.
      seconds_between_saves: states that are offered sooner after the last save are not saved.

    Raises:
      InputError: if the folder cannot be written, or another process is at work there.
    """

    def __init__(self, folder: Path, made_by: Any, *, seconds_between_saves: float = 20.0):
        self._folder, self._made_by = folder.absolute(), made_by
        self._seconds, self._last_save = seconds_between_saves, time.monotonic()
        self._said: set[str] = set()
        self._hold = Hold(self._folder, "checkpoint")
        weakref.finalize(self, self._hold.release)

    def that_depends_on(self, **more: Any) -> "Checkpoint":
        """The same folder for a state that depends on more: whoever makes a state knows best what it depends on."""
        return Checkpoint(self._folder, {"given": self._made_by, **more}, seconds_between_saves=self._seconds)

    def part(self, name: str) -> "Checkpoint":
        """A folder within, for a part of the work that is saved by itself."""
        return Checkpoint(self._folder / name, self._made_by, seconds_between_saves=self._seconds)

    def restore(self, like: Callable[[dict[str, Any]], Any]) -> tuple[Any, dict[str, Any]] | None:
        """The newest whole state and its notes, or None if there is none that the same things made.

        If something is damaged, a line on standard error says so, and whether there is another state to go on from.

        Args:
          like: notes -> a state of the same structure, or its shapes and dtypes.
        """
        if jax.process_count() > 1:  # they would all have to restore the same
            return None
        found, damage = None, []
        for slot in self._slots():
            if slot.number is None:
                damage.append(f"{slot.about.path} cannot be read")
                continue
            if found is not None or (about := slot.about.read()) is None:
                continue
            try:
                found = self._state(slot, about, like), about["notes"]
            except Exception as error:  # Orbax raises whatever it stumbles over
                damage.append(f"{slot.state}: {_reason(error)}")
        if damage:
            then = "starts anew" if found is None else "goes on from another saved state"
            self._say(f"a saved state is damaged, {then} ({damage[0]})")
        return found

    def offer(self, state: Any, notes: dict[str, Any]) -> None:
        """Saves a state unless the last save was a moment ago; then Ctrl-C and SIGTERM wait until the next one is saved."""
        if interruption.waits() or time.monotonic() - self._last_save >= self._seconds:
            self.save(state, notes)
        else:
            interruption.put_off()

    def save(self, state: Any, notes: dict[str, Any]) -> None:
        """Saves a state, and notes as JSON has them; raises `KeyboardInterrupt` after that if a signal has waited for it.

        On a full disk, a line on standard error says so and the work goes on. Work of several processes is not saved.
        """
        if jax.process_count() > 1:
            return
        *_, slot = self._slots()
        number = 1 + max(slot.number or 0 for slot in self._slots())
        with interruption.saving():
            try:
                self._write(slot, state, {"number": number, "layout": _layout(state), "notes": notes})
            except (OSError, RuntimeError, ValueError) as error:  # the last two are Orbax's
                self._say(f"no state could be saved in {self._folder} ({_reason(error)}); the work goes on")
            self._last_save = time.monotonic()

    def remove(self) -> None:
        """Removes everything saved: the work is finished."""
        with interruption.saving("the work was finished"):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._hold.release()

    def _say(self, line: str) -> None:
        """Says something on standard error, once."""
        if line not in self._said:
            self._said.add(line)
            print(f"cimm: {line}", file=sys.stderr)

    def _slots(self) -> "list[_Slot]":
        """The newest first; those without a whole state are the oldest."""
        found = []
        for name in SLOTS:
            about = MadeBy(self._folder / f"{name}.json", self._made_by)
            content = about.read_whoever_made_it()
            number = content.get("number") if isinstance(content, dict) else None
            if not isinstance(number, int):
                number = None if about.path.exists() else 0
            found.append(_Slot(self._folder / name, about, number))
        return sorted(found, key=lambda slot: slot.number or 0, reverse=True)

    def _write(self, slot: "_Slot", state: Any, about: dict[str, Any]) -> None:
        import orbax.checkpoint

        # Whatever made the other state, it stays until this one is whole.
        slot.about.path.unlink(missing_ok=True)
        for left in (slot.state, *self._folder.glob(f"{slot.state.name}.*-tmp*")):
            shutil.rmtree(left, ignore_errors=True)
        if shutil.disk_usage(self._folder).free < sum(leaf.nbytes for leaf in jax.tree.leaves(_without_keys(state))):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # Orbax would say so in pages
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            checkpointer.save(slot.state, jax.tree.map(_on_one_device, _without_keys(state)), force=True)
        slot.about.write({**about, "files": _files(slot.state)})

    def _state(self, slot: "_Slot", about: Any, like: Callable[[dict[str, Any]], Any]) -> Any:
        import orbax.checkpoint

        # Before Orbax looks: it does not notice every damage, and of what it notices, its threads print pages.
        found = _files(slot.state)
        if lost := sum(found.get(name) != digest for name, digest in about["files"].items()):
            raise InputError(f"{lost} of {len(about['files'])} files are missing or not as saved")
        shapes = like(about["notes"])
        if _layout(shapes) != about["layout"]:
            raise InputError("its arrays are of other types or shapes")
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            saved = checkpointer.restore(slot.state, jax.eval_shape(_without_keys, shapes))
        return jax.tree.map(_with_key, shapes, saved)


class _Slot(NamedTuple):
    """One of the two places of a checkpoint.

    Attributes:
      state: Orbax's folder.
      about: says what made the state, once it is whole.
      number: how many states were saved until this one; 0 if there is none, None if that cannot be read.
    """

    state: Path
    about: MadeBy
    number: int | None


def checksum(tree: Any) -> str:
    """SHA-256 of all arrays of a pytree, keys of random numbers among them: their types, shapes and values."""
    total = hashlib.sha256(" ".join(_layout(tree)).encode())
    for leaf in jax.tree.leaves(_without_keys(tree)):
        total.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def _layout(state: Any) -> list[str]:
    """Type and shape of each array, or of what is shaped like one."""
    return [
        f"{np.result_type(leaf) if np.isscalar(leaf) else leaf.dtype} {np.shape(leaf)}"
        for leaf in jax.tree.leaves(state)
    ]


def _files(folder: Path) -> dict[str, str]:
    """Checksums of all files of a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _json(value: Any) -> str:
    return json.dumps(value, default=lambda array: array.tolist())


def _comparable(value: Any) -> Any:
    """As JSON has it, with something that equals itself in the place of NaN."""
    return json.loads(_json(value), parse_constant=lambda word: (word,))


def _reason(error: Exception) -> str:
    return printable(reason_of(error) if isinstance(error, OSError) else one_line(error))[:200]


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(state: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.random.key_data(leaf) if _is_key(leaf) else leaf, state)


def _on_one_device(leaf: Any) -> Any:
    """What is on several devices is restored wherever there is one."""
    if not isinstance(leaf, jax.Array) or len(leaf.devices()) == 1:
        return leaf
    return jax.device_put(leaf, min(leaf.devices(), key=lambda device: device.id))


def _with_key(like: Any, leaf: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(leaf, impl=_kind(like)) if _is_key(like) else leaf


def _kind(key: Any) -> str:
    """Name of the generator that keys, or no more than their shapes, are of."""
    found = []
    jax.eval_shape(lambda key: found.append(str(jax.random.key_impl(key))), key)
    return found[0]
