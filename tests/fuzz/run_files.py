"""Loads damaged files one after the other: python run_files.py LOADER FIRST COUNT MEGABYTES prints what came of them as JSON.

Memory beyond what the program takes before it begins is limited, if MEGABYTES are given: who asks for more is refused it.
"""

import json
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.loaders import LOADERS, Loader

from cimm_jax.errors import InputError

SECONDS = 10
"""For one file; on an idle machine the slowest takes half of one."""


class TooSlowError(BaseException):
    """A file was not loaded in time."""


def outcomes(name: str, first: int, count: int, megabytes: int | None = None) -> dict[str, Any]:
    """How many damaged files were loaded and refused, and what went wrong with others, by the seed of their damage."""
    signal.signal(signal.SIGALRM, _late)
    counts, wrong = Counter(), {}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's and NumPy's, of what they refuse
        loader = LOADERS[name](Path(folder))
        loader.path.write_bytes(loader.whole)
        whole = loader.load()
        loader.check(whole, whole)
        if megabytes is not None:
            _limit(megabytes)
        for seed in range(first, first + count):
            try:
                counts[_outcome(loader, whole, seed)] += 1
            except (Exception, TooSlowError):
                wrong[seed] = traceback.format_exc()
    return {"counts": dict(counts), "wrong": wrong}


def _outcome(loader: Loader, whole: Any, seed: int) -> str:
    rng = np.random.default_rng(seed)
    damage = loader.damages[rng.integers(len(loader.damages))]
    loader.path.write_bytes(damage(loader.whole, rng))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        found = loader.load()
    except InputError as error:
        message = str(error)
        assert message.isprintable(), message
        assert len(message) < 20_000
        assert message.partition(": ")[0].replace("_", "").replace("-", "").isalpha(), message
        assert "MemoryError" not in message, message
        assert "allocate" not in message, message
        message.encode()
        return "refused"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    loader.check(found, whole)
    return "loaded"


def _limit(megabytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (megabytes << 20),) * 2)


def _late(*_: Any) -> None:
    raise TooSlowError


if __name__ == "__main__":
    name, *numbers = sys.argv[1:]
    print(json.dumps(outcomes(name, *map(int, numbers))))
