"""A command in several processes, one a machine or a part of one: how they find each other, and who writes and prints.

All of them run the same command on the same data. The first writes and prints; what the others would write goes to a folder
that is removed, so that nobody needs to ask which process it is.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cimm_jax.errors import InputError, check_count, one_line

__all__ = ["CLUSTERS", "first_alone", "join"]

CLUSTERS = {
    "SLURM_NTASKS": "Slurm",
    "OMPI_COMM_WORLD_SIZE": "Open MPI",
    "PMI_SIZE": "MPI",
}
"""Variables that hold the number of processes, and whose they are."""


def join(settings: Any) -> int:
    """Joins the other processes, before JAX looks for devices; returns how many processes there are.

    Raises:
      InputError: if the flags contradict each other or the cluster, or the others do not come.
    """
    given = {name: getattr(settings, name) for name in ("coordinator", "processes", "process_id")}
    named = [name for name, value in given.items() if value is not None]
    if not named and not settings.distributed:
        return 1
    if named and settings.distributed:
        raise InputError(f"{named[0]}: --distributed takes this from the cluster; give one of them")
    if named:
        _check(**given)
    _keep_output_to_python()
    # Of what a CPU build has, this goes between processes.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            settings.coordinator, settings.processes, settings.process_id, initialization_timeout=_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        name = named[0] if named else "distributed"
        raise InputError(
            f"{name}: the processes did not find each other ({one_line(error)}); start them all"
        ) from error
    by_process = np.bincount([device.process_index for device in jax.devices()], minlength=jax.process_count())
    if len(set(by_process.tolist())) > 1:
        counts = ", ".join(map(str, by_process))
        raise InputError(f"processes: have {counts} devices; start them on machines of as many devices each")
    return jax.process_count()


_SECONDS = 300


def _keep_output_to_python() -> None:
    """What libraries in other languages print (Gloo, whom it is connected to) goes to standard error, beside no JSON."""
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = own


def _check(coordinator: str | None, processes: int | None, process_id: int | None) -> None:
    if coordinator is None:
        raise InputError(
            "coordinator: is needed with --processes and --process-id; give HOST:PORT of the first process"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise InputError(f"coordinator: needs HOST:PORT, got {coordinator!r}")
    if processes is None or process_id is None:
        missing = "processes" if processes is None else "process_id"
        raise InputError(f"{missing}: is needed with --coordinator; all processes and the number of this one, from 0")
    check_count(processes, "processes")
    if not 0 <= process_id < processes:
        raise InputError(f"process_id: needs 0 to {processes - 1} of {processes} processes, got {process_id}")
    for variable, cluster in CLUSTERS.items():
        said = os.environ.get(variable, "")
        if said.isdecimal() and processes > int(said) > 0:
            raise InputError(f"processes: {cluster} started {said}, got {processes}; ask it for more, or give {said}")


@contextmanager
def first_alone(asked: Any) -> Iterator[Any]:
    """The settings for this process: the first one writes and prints, and others read the first one's folder as it is now.

    Raises:
      InputError: if the processes do not all see that folder, or none does.
    """
    if jax.process_count() == 1:
        yield asked
        return
    from jax.experimental import multihost_utils

    seen = np.asarray(multihost_utils.process_allgather(np.asarray(asked.out.exists())))
    if len(set(seen.ravel().tolist())) > 1:
        raise InputError(f"out: only some processes see {asked.out}; choose a folder on a file system of all")
    with tempfile.TemporaryDirectory() as folder:
        if jax.process_index():
            asked = _elsewhere(asked, Path(folder) / "out")
        multihost_utils.sync_global_devices("every process has read the folder")
        if not jax.process_index():
            yield asked
            return
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield asked


def _elsewhere(asked: Any, folder: Path) -> Any:
    """Settings with another folder for what is written, what lies in it there."""
    if asked.out.exists():
        shutil.copytree(asked.out, folder, ignore=shutil.ignore_patterns(".cimm*"))
    return replace(asked, out=folder, **({"track": ()} if hasattr(asked, "track") else {}))
