"""A disk that fills up ends a command in one line, and leaves whole what was written before."""

import errno
import os

import pytest
from sample_records import diagnose_record

from cimm_jax.commands import cli
from cimm_jax.runs.records import DiagnoseRecord, ReportRecord
from cimm_jax.runs.run_folder import read_record_of, write_record

pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.mark.parametrize(
    "name", ["report.html", *(pytest.param(name, marks=pytest.mark.slow) for name in ("model-card.md", "results.json"))]
)
def test_a_report_that_cannot_be_written(tmp_path, monkeypatch, capsys, name):
    (tmp_path / "run").mkdir()
    write_record(tmp_path / "run", diagnose_record())
    arguments = ["report", str(tmp_path / "run"), "--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 0
    check_full(arguments, name, tmp_path / "out", monkeypatch, capsys)
    assert read_record_of(tmp_path / "out", ReportRecord)
    assert read_record_of(tmp_path / "run", DiagnoseRecord) == diagnose_record()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["diagnose", "--horizon", "10", "--primary-no-slower-at", "10"], "results.json"),
        pytest.param(
            ["diagnose", "--horizon", "10", "--primary-no-slower-at", "10"], "diagnose.png", marks=pytest.mark.slow
        ),
        (["immunize", "--method", "pencil", "--resamples", "20"], "theta.safetensors"),
    ],
)
def test_a_run_that_cannot_be_written(tmp_path, monkeypatch, capsys, arguments, name):
    (tmp_path / name).write_text("of an earlier run")
    check_full([*arguments, "--out", str(tmp_path)], name, tmp_path, monkeypatch, capsys)


def check_full(arguments, name, folder, monkeypatch, capsys):
    """Runs a command on a disk where one file has no place."""
    before, replace = (folder / name).read_bytes(), os.replace

    def full(source, target):
        if os.path.basename(target) == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    capsys.readouterr()
    monkeypatch.setattr(os, "replace", full)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert lines[-1].startswith(f"cimm: --out: cannot write {folder / name} (No space left on device); make room")
    assert "Traceback" not in captured.err
    assert (folder / name).read_bytes() == before
    assert not [path.name for path in folder.iterdir() if path.name.startswith(f".{name}")], "nothing half-written"
