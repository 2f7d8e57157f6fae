"""Progress is shown on standard error, where it spoils no output: bars on a terminal, lines in a log, nothing if quiet."""

import time

import pytest

from cimm_jax import progress
from cimm_jax.progress import phase, progress_bar
from cimm_jax.verbosity import Level, at_level


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


def wait_for_lines(capsys, count: int) -> list[str]:
    """Lines of the next that are said; somebody says them in their own time."""
    lines = []
    for _ in range(1000):
        lines += capsys.readouterr().err.splitlines()
        if len(lines) >= count:
            break
        time.sleep(0.005)
    return lines


def test_a_bar_says_what_is_done_and_how_far_it_is(capsys, terminal):
    with progress_bar("features of [primary]", 7) as told:
        told(3)
        told(7)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "features of [primary]" in printed.err, "a title is no markup"
    assert "7/7" in printed.err
    assert "begins" not in printed.err


def test_a_log_has_a_line_at_the_beginning_and_one_at_the_end(capsys):
    with progress_bar("features of [primary]\x1b", 7) as told:
        for made in range(8):
            told(made)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "features of [primary] : begins, 0/7",
        "features of [primary] : done, 7/7, 0:00:00 gone",
    ]


def test_a_log_says_how_much_is_left_once_in_a_while_and_steps_say_nothing(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress_bar("sweep", 1000) as told:
        told(400)  # an earlier run had made them
        now[0] += 60
        for made in range(401, 501):
            told(made)
        lines = wait_for_lines(capsys, 3)
    assert lines[0] == "sweep: begins, 0/1000"
    assert "sweep: 500/1000, 0:01:00 gone, about 0:05:00 left" in lines
    assert len(lines) < 20, "not one a step"


def test_the_first_chunk_has_a_pace_too_and_nothing_has_none(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    work = progress._Counted("sweep", 300)
    now[0] = 10.0
    assert work.says() == "sweep: 0/300, 0:00:10 gone"
    work.told(100)
    assert work.says() == "sweep: 100/300, 0:00:10 gone, about 0:00:20 left"
    work.told(300)
    assert work.says() == "sweep: 300/300, 0:00:10 gone", "nothing is left to foretell"


def test_a_phase_says_that_it_lives_though_nobody_counts(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    with phase("decomposing"):
        lines = wait_for_lines(capsys, 2)
    assert lines[:2] == ["decomposing: begins", "decomposing: 0:00:00 gone"]
    assert capsys.readouterr().err.splitlines()[-1] == "decomposing: done, 0:00:00 gone"


def test_a_phase_on_a_terminal_is_no_log(capsys, terminal):
    with phase("decomposing [it]"):
        pass
    assert "begins" not in capsys.readouterr().err


def test_what_is_interrupted_says_where(capsys):
    def interrupted():
        with progress_bar("sweep", 9) as told:
            told(4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().err.splitlines()[-1] == "sweep: stopped, 4/9, 0:00:00 gone"


@pytest.mark.parametrize("where", ["log", "terminal"])
def test_the_quiet_say_nothing(capsys, where, request):
    if where == "terminal":
        request.getfixturevalue("terminal")
    with at_level(Level.QUIET), phase("decomposing"), progress_bar("sweep", 2) as told:
        told(2)
    assert capsys.readouterr() == ("", "")
