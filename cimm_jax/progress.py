"""Progress of long work, on standard error: bars on a terminal, plain lines in a log, nothing where quiet was asked for."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread

from cimm_jax.errors import printable
from cimm_jax.verbosity import Level, level

__all__ = ["SECONDS_BETWEEN_LINES", "phase", "progress_bar"]

SECONDS_BETWEEN_LINES = 20.0
"""Of a log: seldom enough that an hour is read at a glance, often enough that nobody takes the process for dead."""


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that is told how many steps have been made."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if level() is Level.QUIET:
        yield lambda made: None
    elif not console.is_interactive:
        with _lines(_Counted(title, total)) as work:
            yield work.told
    else:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(title, total=total)
            yield lambda made: progress.update(task, completed=made)


@contextmanager
def phase(title: str) -> Iterator[None]:
    """Says that something is being done whose steps nobody counts."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if level() is Level.QUIET:
        yield
    elif not console.is_interactive:
        with _lines(_Counted(title)):
            yield
    else:
        with console.status(Text(printable(title))):
            yield


class _Counted:
    """How far some work is, as a line says it; of work without a total, only since when."""

    def __init__(self, title: str, total: int | None = None):
        self._title, self._total = printable(title), total
        self._begun, self._made = time.monotonic(), 0
        self._first: tuple[float, int] | None = None

    def told(self, made: int) -> None:
        """So many steps have been made."""
        self._made = made
        if self._first is None:  # what was made before an interruption, or compiled, says nothing of the pace
            self._first = time.monotonic(), made

    def says(self, word: str = "") -> str:
        """The line now: after a word of how it ended, or else with what is left."""
        now = time.monotonic()
        parts = [] if self._total is None else [f"{self._made}/{self._total}"]
        parts += [f"{_clock(now - self._begun)} gone", *([] if word else self._left(now))]
        return f"{self._title}: {f'{word}, ' if word else ''}{', '.join(parts)}"

    def begins(self) -> str:
        """The first line."""
        return f"{self._title}: begins{'' if self._total is None else f', 0/{self._total}'}"

    def _left(self, now: float) -> list[str]:
        since, before = self._first or (now, 0)
        if self._made <= before:  # one chunk so far: its pace is that since the beginning
            since, before = self._begun, 0
        if not self._total or not before < self._made < self._total:
            return []
        return [f"about {_clock((now - since) * (self._total - self._made) / (self._made - before))} left"]


@contextmanager
def _lines(work: _Counted) -> Iterator[_Counted]:
    """A line at the beginning, one at the end, and one every so often between, however long a step takes."""
    over = Event()

    def speak() -> None:
        while not over.wait(SECONDS_BETWEEN_LINES):
            _say(work.says())

    speaker = Thread(target=speak, daemon=True)
    word = "stopped"
    _say(work.begins())
    speaker.start()
    try:
        yield work
        word = "done"
    finally:
        over.set()
        speaker.join()
        _say(work.says(word))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
