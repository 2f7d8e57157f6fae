"""Messages fit on one line."""

import pytest

from cimm_jax.errors import InputError, check_count, few, one_line


def test_an_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("disk full"), "disk full"),
        (ValueError("\n first\nsecond"), "first"),
        (KeyError(), "KeyError"),
        (RuntimeError("  \n "), "RuntimeError"),
    ],
)
def test_of_other_errors_the_first_line_is_told(error, line):
    assert one_line(error) == line


@pytest.mark.parametrize(
    ("names", "told"),
    [([], "none"), (["a"], "a"), (list("abcde"), "a, b, c, d, e"), (list("abcdefg"), "a, b, c, d, e and 2 more")],
)
def test_long_lists_are_cut(names, told):
    assert few(names) == told
    assert few(list("abc"), 2) == "a, b and 1 more"


def test_counts_start_at_one():
    check_count(1, "steps")
    for bad in (0, -3):
        with pytest.raises(InputError, match=rf"^steps: needs at least 1, got {bad}$"):
            check_count(bad, "steps")
