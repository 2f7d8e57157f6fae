"""One process at a time: who comes second is told who is first, is refused or waits, and nobody waits for the dead."""

import os
import subprocess
import sys
import threading

import pytest
from processes import other_process

from cimm_jax import InputError
from cimm_jax.locks import Hold, only_one_in, turn_at


def test_the_second_process_is_refused_in_one_line_that_names_the_first(tmp_path):
    with other_process("only_one_in", tmp_path) as first:
        with pytest.raises(
            InputError, match=rf"^--out: .* is in use by process {first.pid} on .+ since 20\d\d-"
        ) as refused:
            Hold(tmp_path, "--out")
        assert len(str(refused.value).splitlines()) == 1
        first.stdin.write("\n")
        first.stdin.flush()
        first.wait(10)
        assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    with only_one_in(tmp_path) as folder:
        assert folder == tmp_path


def test_a_process_that_was_killed_blocks_nobody(tmp_path):
    with other_process("only_one_in", tmp_path) as first:
        first.kill()
        first.wait(10)
    assert list(tmp_path.iterdir()), "it could not clean up"
    with only_one_in(tmp_path):
        assert f"process {os.getpid()} on" in second_look(tmp_path)
    assert list(tmp_path.iterdir()) == []


def second_look(folder):
    """What another process is told."""
    asked = "import sys; from pathlib import Path; from cimm_jax.locks import Hold; Hold(Path(sys.argv[1]), '--out')"
    done = subprocess.run([sys.executable, "-c", asked, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_one_process_may_come_again_and_the_last_release_counts(tmp_path):
    first, second = (Hold(tmp_path / "work", "--out") for _ in range(2))
    first.release()
    first.release()
    assert "is in use by" in second_look(tmp_path / "work")
    second.release()
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize("note", ["", "{}", "[1]", '{"process": 1}', "[" * 100_000])
def test_a_note_that_says_nothing_names_nobody(tmp_path, note):
    with other_process("only_one_in", tmp_path):
        (tmp_path / ".cimm.holder").write_text(note)
        with pytest.raises(InputError, match="is in use by another process; wait"):
            Hold(tmp_path, "--out")


def test_who_waits_says_whom_for_and_goes_on_when_they_are_gone(tmp_path, capsys):
    path = tmp_path / "array.npy"
    with other_process("turn_at", path) as first:
        threading.Timer(0.5, first.kill).start()
        with turn_at(path):
            assert first.wait(10) < 0
    assert f"cimm: waiting for process {first.pid} on " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_threads_take_turns_too(tmp_path):
    inside, most = [0], [0]

    def work():
        for _ in range(5):
            with turn_at(tmp_path / "array.npy"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^--out: cannot write to"):
        Hold(tmp_path / "file" / "below", "--out")
