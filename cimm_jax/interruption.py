"""Ctrl-C and SIGTERM: they end a command in one line, and what is worth saving is saved first.

Only a program installs the handlers (`install`); whoever imports the package keeps their own. A signal raises
`KeyboardInterrupt`, with two exceptions: before there is anything to undo (imports, arguments) the process ends at once, and
while there is something to save the signal is put off (`put_off`) until it is saved (`let_through`). A second signal then ends
the process at once. Libraries catch what they should not: an interruption that disappears is raised again.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

__all__ = [
    "begin",
    "came",
    "end",
    "ignore",
    "install",
    "leave",
    "let_through",
    "put_off",
    "saving",
    "status",
    "taken",
    "waits",
    "word",
]

LOOK_EVERY = 0.5
"""Seconds between two looks at whether an interruption is still on its way."""


@dataclass
class _State:
    """Of the process.

    Attributes:
      received: the last signal; None if there was none.
      begun: there is something that an exception would undo.
      saving: there is something to save first.
      waits: a signal was put off.
    """

    received: int | None = None
    begun: bool = False
    saving: bool = False
    waits: bool = False


_state = _State()


def install() -> None:
    """Takes Ctrl-C and SIGTERM, unless whoever started the process has it ignore them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _receive)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _look)
    sys.unraisablehook = _unraisable


def begin() -> None:
    """From now on, a signal raises `KeyboardInterrupt`."""
    _state.begun = True


def taken() -> None:
    """Says that an interruption has come to where it was caught on purpose."""
    _look_again(False)


def end() -> None:
    """From now on, a signal ends the process at once: everything is written, or undone."""
    taken()
    _state.begun = _state.saving = _state.waits = False


def ignore() -> None:
    """Takes no signal any more: the program is through, and its last steps are short."""
    taken()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def put_off() -> None:
    """From now on, a signal waits for `let_through`."""
    _state.saving = True


def let_through(told: str = "") -> None:
    """From now on, a signal does not wait; raises `KeyboardInterrupt` with this text if one has."""
    _state.saving = False
    if _state.waits:
        _state.waits = False
        _look_again(True)
        raise KeyboardInterrupt(told)


@contextmanager
def saving(told: str = "") -> Iterator[None]:
    """Puts signals off meanwhile; one that came raises `KeyboardInterrupt` with this text at the end."""
    put_off()
    try:
        yield
    finally:
        let_through(told)


def waits() -> bool:
    """Whether a signal was put off, so that what is to be saved should be saved now."""
    return _state.waits


def came() -> bool:
    """Whether there was a signal, whatever became of it."""
    return _state.received is not None


def word() -> str:
    """What happened to the process."""
    return "terminated" if _state.received == signal.SIGTERM else "interrupted"


def status() -> int:
    """The exit status of a process that a signal ended, as shells have it."""
    return 128 + (_state.received or signal.SIGINT)


def leave(code: int) -> NoReturn:
    """Ends the process without taking the interpreter apart, which native libraries do not survive amid their work."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _receive(number: int, frame: FrameType | None) -> None:
    del frame
    _state.received = number
    if not _state.begun:
        _say(f"cimm: {word()}")
        leave(status())
    if not _state.saving:
        _look_again(True)
        raise KeyboardInterrupt
    if _state.waits:
        _say(f"cimm: {word()} before everything was saved; what was saved earlier is there")
        leave(status())
    _state.waits = True
    _say("cimm: stops when what is done is saved; once more stops it at once")


def _say(line: str) -> None:
    """Writes to standard error beneath Python's own buffers, which may be in use; shows the cursor that a bar has hidden."""
    shown = "\x1b[?25h" if os.isatty(2) else ""
    with suppress(OSError):
        os.write(2, f"{shown}{line}\n".encode())


def _look_again(wanted: bool) -> None:
    if signal.getsignal(getattr(signal, "SIGALRM", signal.SIGINT)) is _look:
        signal.setitimer(signal.ITIMER_REAL, LOOK_EVERY if wanted else 0)


def _look(number: int, frame: FrameType | None) -> None:
    """Raises the interruption again, unless it is being handled: code that tidies up may take its time."""
    del number, frame
    _look_again(True)
    if not isinstance(sys.exc_info()[1], KeyboardInterrupt) and not _state.saving:
        raise KeyboardInterrupt


def _unraisable(unraisable: Any) -> None:
    """Is silent about an interruption that was raised where nobody can catch it, as in a destructor: it comes again."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
