"""Other processes in tests, and the signals they are sent."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def started(command: Sequence[str], **settings: Any) -> subprocess.Popen[str]:
    """A process whose words are read, and that does not ignore Ctrl-C, as what scripts start in the background does."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)
    finally:
        signal.signal(signal.SIGINT, former)


def wait_until_it_catches(process: subprocess.Popen[str], number: int) -> None:
    """Returns when the process has a handler for a signal; needs Linux's /proc."""
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        mask = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
        if int(mask, 16) >> (number - 1) & 1:
            return
        time.sleep(0.002)
    raise AssertionError(process.communicate())


OTHER = """
import sys
from pathlib import Path
from cimm_jax.locks import only_one_in, turn_at

with (only_one_in if sys.argv[1] == "only_one_in" else turn_at)(Path(sys.argv[2])):
    print("here", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def other_process(kind: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """One that is in the folder, or at the file, until it reads a line or is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, kind, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        yield process
        process.kill()
