"""Messages fit on one line."""

import pickle

import pytest

from cimm_jax.errors import LONGEST, InputError, check_count, few, naming, one_line


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


@pytest.mark.parametrize(
    "text", ["a\nb", "\x1b[31mred", "\u202eleft", "half \udcff", "tab\t\r\x00\x7f", "\u2028 \u0085"]
)
def test_a_message_is_one_line_of_text_whatever_it_quotes(text):
    message = str(InputError(f"weights: {text}; do this"))
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert message.startswith("weights: ")
    message.encode()
    assert pickle.loads(pickle.dumps(InputError(text))).args == InputError(text).args


def test_a_long_message_keeps_its_beginning_and_its_end():
    message = str(InputError(f"weights: {'x' * 10**6}; do this"))
    assert len(message) < 1.01 * LONGEST
    assert message.startswith("weights: xxx")
    assert message.endswith("xxx; do this")


def test_the_caller_names_its_own_argument():
    with pytest.raises(InputError, match=r"^primary: is missing$"), naming("primary", "images"):
        raise InputError("images: is missing")
    with pytest.raises(InputError, match=r"^image_rows: images: 3$"), naming("primary", "images"):
        raise InputError("image_rows: images: 3")


def test_counts_start_at_one():
    check_count(1, "steps")
    for bad in (0, -3):
        with pytest.raises(InputError, match=rf"^steps: needs at least 1, got {bad}$"):
            check_count(bad, "steps")
