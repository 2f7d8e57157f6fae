"""How much memory the process has held."""

import sys

__all__ = ["peak_bytes"]


def peak_bytes() -> int:
    """Most bytes in memory at any time so far; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
