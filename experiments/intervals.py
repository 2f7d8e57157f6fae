"""Means over seeds with 95 % intervals (Student's t), and how they are written."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t

from cimm_jax.numerics.interval import Interval


def over_seeds(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean over seeds, one value each, and its 95 % interval; of one seed, the value alone."""
    found = np.asarray(values, float)
    estimate = float(found.mean())
    width = 0.0 if len(found) < 2 else float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5)
    return Interval(estimate, estimate - width, estimate + width)


def half_width(interval: Interval) -> float:
    """From the estimate to either end of an interval of `over_seeds`."""
    return interval.high - interval.estimate


def with_width(interval: Interval, digits: int = 2) -> str:
    """Like "0.52 +- 0.03"; of one seed +- 0."""
    return f"{interval.estimate:.{digits}f} +- {half_width(interval):.{digits}f}"
