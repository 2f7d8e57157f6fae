"""Work over several devices, in one process and in two, gives what it gives on one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EVERYTHING, ROWS = (Path(__file__).with_name(f"{name}_program.py") for name in ("spread", "rows"))


def begun(program, devices, *given):
    flags = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={devices}"
    # A script has its own folder first on its path, and not where pytest was started.
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(program.parents[1])}
    command = [sys.executable, program, *given]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "equal"  # Gloo has its say before


def test_rows_on_two_devices_are_as_on_one():
    check(begun(ROWS, 2))


@pytest.mark.slow
def test_eight_devices_are_as_one(tmp_path):
    check(begun(EVERYTHING, 8, tmp_path))


@pytest.mark.slow
def test_two_processes_of_four_devices_are_as_one(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    processes = [begun(EVERYTHING, 4, tmp_path, coordinator, "2", number) for number in "01"]
    try:
        for process in processes:
            check(process)
    finally:
        for process in processes:
            process.kill()
