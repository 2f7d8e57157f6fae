"""Compiled programs are kept on disk, so that the second run of a command does not compile what the first did."""

import hashlib
import platform
from pathlib import Path

import jax

from cimm_jax.files import cache_home

__all__ = ["keep_programs"]

LEAST_SECONDS = 0.1
"""What compiles faster is compiled again."""

MOST_BYTES = 1 << 30
"""Beyond this, what was not used for longest goes."""


def keep_programs() -> Path | None:
    """Has JAX keep compiled programs in a folder of this machine's kind, below `files.cache_home`; returns the folder.

    XLA runs a program that was compiled for another processor after a warning at most, so machines that share a home do not
    share programs. Nothing changes where JAX_COMPILATION_CACHE_DIR names a folder, where JAX_ENABLE_COMPILATION_CACHE is false,
    or where the folder cannot be made; then the result is None.
    """
    settings = jax.config.values
    if not settings["jax_enable_compilation_cache"] or settings["jax_compilation_cache_dir"] is not None:
        return None
    folder = cache_home() / "programs" / _machine()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # whoever may write here has code run
    except OSError:
        return None
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    jax.config.update("jax_compilation_cache_max_size", MOST_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _machine() -> str:
    """A name of the processor and of what it can do."""
    told = [platform.system(), platform.machine(), platform.processor()]
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    told += [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
