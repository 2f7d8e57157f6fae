"""Ctrl-C and SIGTERM: at once where nothing is at stake, after the next save where something is, and always in one line."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import started, wait_until_it_catches

from cimm_jax import interruption
from cimm_jax.interruption import _State

STATUS = Path("/proc/self/status")


@pytest.fixture
def installed(monkeypatch):
    """The handlers of a program that has begun; a second signal raises `SystemExit` instead of ending the tests."""
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    hook = sys.unraisablehook
    monkeypatch.setattr(interruption, "_state", _State())
    monkeypatch.setattr(os, "_exit", sys.exit)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts tests in the background has it ignored
    interruption.install()
    interruption.begin()
    yield
    interruption.end()
    for number, handler in former.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook


SIGNALS = pytest.mark.parametrize(
    ("number", "word", "status"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)


def test_importing_the_package_takes_no_signal():
    asked = "import signal; print(*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)));"
    before, after = subprocess.run(
        [sys.executable, "-c", f"{asked} import cimm_jax, cimm_jax.interruption; cimm_jax.immunize; {asked}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert before == after


@SIGNALS
def test_a_signal_raises_at_once_where_nothing_is_to_be_saved(installed, number, word, status):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert (interruption.word(), interruption.status()) == (word, status)


@SIGNALS
def test_a_signal_waits_for_what_is_to_be_saved(installed, number, word, status, capfd):
    done = []

    def save():
        with interruption.saving("told"):
            assert not interruption.waits()
            signal.raise_signal(number)
            assert interruption.waits()
            done.append("saved")

    with pytest.raises(KeyboardInterrupt, match="told"):
        save()
    assert done == ["saved"]
    assert not interruption.waits()
    assert (interruption.word(), interruption.status()) == (word, status)
    assert capfd.readouterr().err == "cimm: stops when what is done is saved; once more stops it at once\n"


@SIGNALS
def test_a_second_signal_ends_the_process(installed, number, word, status, capfd):
    interruption.put_off()
    signal.raise_signal(number)
    with pytest.raises(SystemExit) as left:
        signal.raise_signal(number)
    assert left.value.code == status
    assert capfd.readouterr().err.splitlines()[-1].startswith(f"cimm: {word} before everything was saved")


def swallowed():
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interruption_that_a_library_swallows_comes_again(installed):
    class Swallowing:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    for swallow in (Swallowing, swallowed):
        swallow()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
        interruption.taken()
        time.sleep(2 * interruption.LOOK_EVERY)


def test_an_interruption_under_way_is_not_raised_twice(installed):
    done = []

    def tidy_up():
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            time.sleep(2.5 * interruption.LOOK_EVERY)  # ends between two looks
            done.append("tidied up")

    with pytest.raises(KeyboardInterrupt):
        tidy_up()
    interruption.taken()
    assert done == ["tidied up"]


def test_a_program_that_is_through_takes_no_signal(installed):
    interruption.ignore()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.raise_signal(number)


def test_who_is_told_to_ignore_ctrl_c_ignores_it(installed):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interruption.install()
    signal.raise_signal(signal.SIGINT)


@pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's list of a process's signals")
@SIGNALS
@pytest.mark.parametrize("words", [["--help"], ["diagnose", "--out", "OUT"]])
def test_the_first_seconds_of_a_command_end_in_one_line(tmp_path, number, word, status, words):
    words = [str(tmp_path) if given == "OUT" else given for given in words]
    command = [sys.executable, "-m", "cimm_jax", *words]
    with started(command) as process:
        wait_until_it_catches(process, signal.SIGTERM)
        process.send_signal(number)
        printed, told = process.communicate(timeout=60)
    assert (process.returncode, told, printed) == (status, f"cimm: {word}\n", "")
