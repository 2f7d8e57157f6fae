"""How much memory is left, to choose how many pairs are worked on at once."""

import os
from pathlib import Path

import jax

__all__ = ["CGROUP", "USED_AT_MOST", "free_bytes"]

CGROUP = Path("/sys/fs/cgroup")
USED_AT_MOST = 0.5
"""Share of the memory left that a sweep plans with."""


def free_bytes() -> int:
    """Bytes that an array program may still take: of the device if it has its own memory, otherwise of the machine."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return int(min(_free_on_machine(), _free_in_container()))


def _free_on_machine() -> int:
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux: suppose that half of it is in use
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _free_in_container() -> float:
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return int(limit) - int(used)
    except (OSError, ValueError):  # no such limit, or "max"
        return float("inf")
