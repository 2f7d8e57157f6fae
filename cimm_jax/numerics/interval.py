"""One type for every interval, so that it reads the same wherever it is shown."""

from typing import NamedTuple

__all__ = ["Interval"]


class Interval(NamedTuple):
    """An estimate with both ends of an interval around it.

    Attributes:
      estimate: the number itself: a mean over seeds, or a ratio measured on all rows.
      low: lower end.
      high: upper end.
    """

    estimate: float
    low: float
    high: float
