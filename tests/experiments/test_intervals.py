"""Intervals over seeds, and how they are written."""

import pytest

from experiments.intervals import half_width, over_seeds, with_width


def test_the_interval_is_students_t():
    interval = over_seeds([1.0, 2.0, 3.0])
    assert interval.estimate == 2
    assert half_width(interval) == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert with_width(interval, 1) == "2.0 +- 2.5"


def test_one_seed_has_no_width():
    assert over_seeds([0.25]) == (0.25, 0.25, 0.25)
