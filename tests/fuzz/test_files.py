"""Damaged files: each is loaded as what it is, or refused in one line; nobody crashes, waits for ever or takes all memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import run_files
from fuzz.loaders import LOADERS

TESTS = Path(__file__).parents[1]

SHORT = 25
"""Files of each loader in the short profile."""

LONG = 250
"""In the long one, beyond the former."""

MEGABYTES = 1536
"""That a loader may take: an image of 50 million pixels, or MNIST."""


@pytest.mark.parametrize("name", LOADERS)
def test_a_few_damaged_files(name):
    found = run_files.outcomes(name, 0, SHORT)
    assert not found["wrong"], "\n".join(f"{seed}: {text}" for seed, text in found["wrong"].items())
    assert sum(found["counts"].values()) == SHORT


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's count of pages")
@pytest.mark.parametrize("name", LOADERS)
def test_many_damaged_files_within_bounded_memory(name):
    arguments = [name, str(SHORT), str(LONG), str(MEGABYTES)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, str(TESTS / "fuzz/run_files.py"), *arguments],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        timeout=LONG * run_files.SECONDS,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert not found["wrong"], "\n".join(f"{seed}: {text}" for seed, text in found["wrong"].items())
    assert sum(found["counts"].values()) == LONG


def test_what_is_wrong_is_noticed(monkeypatch):
    """The harness itself: other exceptions, endless loops, other content and messages of two lines all count."""

    def loop():
        while True:
            pass

    def crash():
        raise KeyError("x")

    loader = LOADERS["theta"]
    monkeypatch.setattr(run_files, "SECONDS", 0.05)
    for load in (loop, crash):
        calls = []

        def made(folder, load=load, calls=calls):
            made = loader(folder)
            return made._replace(load=lambda: load() if calls.append(1) or len(calls) > 1 else made.load())

        monkeypatch.setitem(LOADERS, "theta", made)
        assert list(run_files.outcomes("theta", 0, 2)["wrong"]) == [0, 1]
