"""Numbers and names as people read them, the same wherever they are shown."""

import math
from collections.abc import Sequence

import numpy as np

__all__ = [
    "counted",
    "format_number",
    "interval_text",
    "listed",
    "percent",
    "place_text",
    "plain",
    "steps_text",
    "times",
]


def format_number(value: object) -> str:
    """Four significant digits, scientific from 1e5 up and below 1e-3; "-" for None and NaN.

    >>> [format_number(value) for value in (12.3456, 250000.0, 0.00012345, 7, None)]
    ['12.35', '2.500e+05', '1.234e-04', '7', '-']
    """
    value = plain(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    if math.isinf(value):
        return "infinite" if value > 0 else "-infinite"
    scientific = value and not 1e-3 <= abs(value) < 1e5
    return f"{value:.3e}" if scientific else f"{value:.4g}"


def plain(value: object) -> object:
    """NumPy and JAX scalars as Python's, so that float32 is formatted and aligned as any other number."""
    item = getattr(value, "item", None)
    return item() if callable(item) else value


def percent(value: object) -> str:
    """Like "67 %", the space unbreakable; "-" for None and NaN."""
    number = plain(value)
    if not isinstance(number, int | float) or math.isnan(number):
        return "-"
    return f"{100 * number if abs(number) >= 1e-3 else 0:.3g}\N{NO-BREAK SPACE}%"


def times(factor: float) -> str:
    """Like "1.5x" and "1,000x"."""
    return f"{factor:,.0f}x" if factor >= 100 else f"{factor:.3g}x"


def steps_text(steps: Sequence[float]) -> str:
    """Steps to each threshold, like "1 / 4 / never"; "never" for none of them."""
    if not np.isfinite(steps).any():
        return "never"
    return " / ".join(f"{value:.0f}" if math.isfinite(value) else "never" for value in steps)


def interval_text(low: object, high: object) -> str:
    """Like "0.12 to 3.4"."""
    return f"{_short(low)} to {_short(high)}"


def counted(count: int, noun: str) -> str:
    """Like "1 seed" and "2 seeds"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """Like "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def place_text(place: str) -> str:
    """Where attackers put a head; of many layers together, how many and from which to which.

    >>> [place_text(place) for place in ("layer2.0", "a + b + c + d")]
    ['layer2.0', '4 layers, a to d']
    """
    layers = place.split(" + ")
    return place if len(layers) < 4 else f"{len(layers)} layers, {layers[0]} to {layers[-1]}"


def _short(value: object) -> str:
    number = plain(value)
    return f"{number:.3g}" if isinstance(number, int | float) and math.isfinite(number) else format_number(number)
