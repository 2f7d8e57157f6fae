"""Commands that are killed at random moments and given again end as if nothing had happened, bit for bit.

Two processes at once and a full disk, too. `python -m pytest -m slow tests/kills` kills more than twenty times.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from processes import started, wait_until_it_catches

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's list of processes")

HERE = Path(__file__).parent
WORDS = {
    "sweep": "sweep --steps 4 --rows 12 --heldout-rows 12 --pairs-at-once 45 --methods ill_only",
    "attack": "attack --methods pencil --rows 40 --harmful-only --attack-steps 50 --rates 2 --seeds 2 --attackers line_search"
    " sgd newton",
    "diagnose": "diagnose --budgets 1 keep",
    "training": "immunize --model small --weights INPUTS/small.safetensors --primary INPUTS/primary --harmful INPUTS/harmful"
    " --method algorithm1 --train-from layer3.0 --epochs 2 --batch-size 12",
}

RESUMED = ("sweep", "attack", "training")


@dataclass
class Whole:
    """A command that nobody interrupted.

    Attributes:
      words: of the command, but for where it writes.
      seconds: that it took.
      results: what it wrote.
    """

    words: list[str]
    seconds: float
    results: dict


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Programs are compiled once for all processes; what is killed while it compiles leaves nothing half-written there."""
    return {
        **os.environ,
        "PYTHONPATH": str(HERE.parent),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.fixture(scope="module")
def wholes(inputs, environment, tmp_path_factory):
    """The named command, run once."""
    found = {}

    def whole(name):
        if name not in found:
            words = WORDS[name].replace("INPUTS", str(inputs)).split()
            out, begun = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
            code, told = ended(start(words, out, environment))
            assert code == 0, told
            found[name] = Whole(words, time.monotonic() - begun, results(out))
        return found[name]

    return whole


def start(words, out, environment):
    if "--model" in words:
        words = [*words, "--cache", str(out.parent / "cache")]
    return started([sys.executable, str(HERE / "run_cimm.py"), *words, "--out", str(out)], env=environment)


def ended(process):
    """Exit status of a process, and what it printed on standard error."""
    _, told = process.communicate(timeout=600)
    return process.returncode, told


def results(out):
    """What a command wrote, but for where."""
    return json.loads((out / "results.json").read_text().replace(str(out.parent), "FOLDER"))


def killed(process, number, seconds):
    """Sends a signal after so many seconds of work; whether the process was still there. Checks how it went."""
    wait_until_it_catches(process, signal.SIGTERM)
    time.sleep(seconds)
    process.send_signal(number)
    code, told = ended(process)
    if code == 0:
        return False
    last = (told.splitlines() or [""])[-1]
    if number == signal.SIGKILL:
        assert code == -signal.SIGKILL, told
    else:
        assert code == 128 + number, told
        assert last.startswith("cimm: terminated" if number == signal.SIGTERM else "cimm: interrupted"), told
    assert "Traceback" not in told, told
    return True


def kill_again_and_again(whole, out, environment, number, times, rng):
    """Kills a command until it has been killed so many times, runs it to its end, and compares; how often it was finished."""
    kills = finished = 0
    while kills < times:
        folder = out / str(finished) / "run"
        if killed(start(whole.words, folder, environment), number, rng.uniform(0.0, 0.8) * whole.seconds):
            kills += 1
        else:
            assert results(folder) == whole.results
            finished += 1
    folder = out / str(finished) / "run"
    code, told = ended(start(whole.words, folder, environment))
    assert code == 0, told
    assert results(folder) == whole.results
    return finished


@pytest.mark.slow
def test_a_command_that_was_killed_once_ends_as_if_nothing_had_happened(wholes, environment, tmp_path):
    kill_again_and_again(wholes("training"), tmp_path, environment, signal.SIGKILL, 1, np.random.default_rng(0))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", RESUMED)
def test_a_command_that_was_killed_again_and_again_ends_as_if_nothing_had_happened(
    wholes, environment, tmp_path, name, number
):
    whole = wholes(name)
    rng = np.random.default_rng((number, len(name)))
    finished = kill_again_and_again(whole, tmp_path, environment, number, 3, rng)
    print(f"{name}: 3 times {number.name}; finished {finished} times before it came")


@pytest.mark.slow
@pytest.mark.parametrize("name", RESUMED)
def test_of_two_at_once_in_one_folder_the_second_is_refused_and_the_first_goes_on(wholes, environment, tmp_path, name):
    whole, out = wholes(name), tmp_path / "run"
    first = start(whole.words, out, environment)
    while not (out / ".cimm.holder").exists():
        assert first.poll() is None
        time.sleep(0.01)
    code, told = ended(start(whole.words, out, environment))
    assert code == 2
    assert f"--out: {out} is in use by process {first.pid} on " in told.splitlines()[-1]
    code, told = ended(first)
    assert code == 0, told
    assert results(out) == whole.results
    assert not [path for path in out.iterdir() if path.name.startswith(".")], "no lock is left behind"


@pytest.mark.slow
def test_two_at_once_on_one_cache_wait_for_each_other(wholes, environment, tmp_path):
    whole, folders = wholes("training"), [tmp_path / name for name in ("one", "other")]
    cache = ["--cache", str(tmp_path / "cache")]
    command = [sys.executable, str(HERE / "run_cimm.py"), *whole.words, *cache]
    for code, told in map(ended, [started([*command, "--out", str(out)], env=environment) for out in folders]):
        assert code == 0, told
    for out in folders:
        found = json.loads((out / "results.json").read_text())
        for part in ("measures", "history", "training", "kept", "network"):
            assert found[part] == whole.results[part]


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, and a function that gives it another size; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def resize(size, *more):
        command = ["mount", *more, "-o", f"size={size}", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if shutil.which("mount") is None or not resize("32k", "-t", "tmpfs", "none"):
        pytest.skip("needs the right to mount a small disk")
    yield folder, resize
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_a_full_disk_is_one_line_and_costs_nothing_when_there_is_room_again(wholes, environment, small_disk, name):
    whole, (disk, resize) = wholes(name), small_disk
    out = disk / "run"
    code, told = ended(start(whole.words, out, environment))
    assert code == 2, told
    lines = [line for line in told.splitlines() if line.startswith("cimm: ")]
    assert lines[-1:] == told.splitlines()[-1:], told
    assert 1 <= len(lines) <= 2, told
    assert all("No space left on device" in line for line in lines), told
    assert "Traceback" not in told, told
    assert resize("100m", "-o", "remount")
    code, told = ended(start(whole.words, out, environment))
    assert code == 0, told
    assert results(out) == whole.results
