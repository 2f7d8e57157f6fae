"""One process at a time in a folder, or at a file: who comes second is told who is first, and is refused or waits.

The system drops the locks of a process that has died, however it died. Beside each lock lies a note of its holder, for people.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from filelock import FileLock, Timeout

from cimm_jax.errors import InputError, printable
from cimm_jax.files import output_folder, read_regular, write_json

__all__ = ["Hold", "only_one_in", "turn_at"]

LOOK_EVERY = 0.2
"""Seconds between two looks of whoever waits."""


class Hold:
    """A folder that other processes are kept from; of several of one process, the last one released gives it back.

    Args:
      folder: made if need be.
      argument: what messages call it.

    Raises:
      InputError: if the folder cannot be written, or another process is at work there; the message names it.
    """

    _known: ClassVar[dict[Path, tuple[FileLock, int]]] = {}
    _changing = threading.RLock()

    def __init__(self, folder: Path, argument: str):
        self._path = output_folder(folder, argument).resolve() / ".cimm"
        with self._changing:
            lock, count = self._known.get(self._path, (None, 0))
            if lock is None and (lock := _taken(self._path)) is None:
                who = _holder(self._path)
                raise InputError(f"{argument}: {folder} is in use by {who}; wait for it, or choose another folder")
            self._known[self._path] = (lock, count + 1)

    def release(self) -> None:
        """Gives it back; once more does nothing."""
        with self._changing:
            path, self._path = self._path, None
            if path is None:
                return
            lock, count = self._known.pop(path)
            if count > 1:
                self._known[path] = (lock, count - 1)
            else:
                _give_back(path, lock)

    _path: Path | None


@contextmanager
def only_one_in(folder: Path, argument: str = "--out") -> Iterator[Path]:
    """Keeps other processes from a folder meanwhile; errors as in `Hold`."""
    hold = Hold(folder, argument)
    try:
        yield folder
    finally:
        hold.release()


@contextmanager
def turn_at(path: Path) -> Iterator[None]:
    """Waits until nobody else, in this process or another, works at a file, and says whom for; keeps others from it then."""
    if (lock := _taken(path)) is None:
        print(f"cimm: waiting for {_holder(path)}, who works at {printable(str(path))}", file=sys.stderr)
        lock = _taken(path, patient=True)
    assert lock is not None  # who is patient gets it
    try:
        yield
    finally:
        _give_back(path, lock)


def _taken(path: Path, *, patient: bool = False) -> FileLock | None:
    """The lock of a path; None if it is another's and nobody waits."""
    lock = FileLock(_beside(path, "lock"), thread_local=False)
    try:
        lock.acquire(timeout=-1 if patient else 0, poll_interval=LOOK_EVERY)
    except Timeout:
        return None
    try:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        write_json(_beside(path, "holder"), {"process": os.getpid(), "host": socket.gethostname(), "since": now})
    except BaseException:
        lock.release()
        raise
    return lock


def _give_back(path: Path, lock: FileLock) -> None:
    # While it is held: who has opened the file before looks whether it is there still.
    for kind in ("holder", "lock"):
        _beside(path, kind).unlink(missing_ok=True)
    lock.release()


def _holder(path: Path) -> str:
    try:
        found = json.loads(read_regular(_beside(path, "holder"), "holder", most=10_000, cure="look again"))
        return printable(f"process {found['process']} on {found['host']} since {found['since']}")
    except (ValueError, TypeError, KeyError, RecursionError):  # it has just come, or just gone
        return "another process"


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f"{path.name}.{kind}")
