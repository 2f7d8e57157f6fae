"""Numbers as people read them."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.views.numbers import counted, format_number, interval_text, listed, percent, steps_text, times


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (99999.4, "1e+05"),
        (-123456.0, "-1.235e+05"),
        (1e-3, "0.001"),
        (0.000999, "9.990e-04"),
        (math.nan, "-"),
        (np.float32("nan"), "-"),
        (None, "-"),
        (math.inf, "infinite"),
        (-math.inf, "-infinite"),
        (12, "12"),
        (10**7, "10000000"),
        (True, "yes"),
        (np.bool_(False), "no"),
        (np.int32(7), "7"),
        (jnp.float32(0.1), "0.1"),
        (np.array(0.25), "0.25"),
        ("word", "word"),
    ],
)
def test_numbers_have_four_digits_and_the_scale_is_readable(value, text):
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.6666, "66.7\xa0%"), (1, "100\xa0%"), (1e-5, "0\xa0%"), (-0.5, "-50\xa0%"), (None, "-")]
)
def test_per_cent_does_not_break(value, text):
    assert percent(value) == percent(None if value is None else np.asarray(value)) == text
    assert percent(math.nan) == "-"


def test_times_steps_intervals_and_lists():
    assert [times(1.234), times(1234.5)] == ["1.23x", "1,234x"]
    assert steps_text((1.0, 4.0, math.inf)) == "1 / 4 / never"
    assert steps_text((math.inf,) * 3) == "never"
    assert interval_text(0.1234, math.inf) == "0.123 to infinite"
    assert [counted(count, "seed") for count in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
