import numpy as np
import pytest

from cimm_jax.data.digit_tasks import DigitVersus, DigitVersusRest, SingleDigit, parse_digit_task
from cimm_jax.errors import InputError
from cimm_jax.tasks import check_task

COUNTS = [20, 7, 12, 30, 5, 9, 6, 8, 11, 10]


@pytest.fixture
def images(rng):
    """Shuffled images whose first entry is their digit and whose second one is their number in the data set."""
    y = rng.permutation(np.repeat(np.arange(10), COUNTS))
    return np.stack([y.astype(float), np.arange(len(y), dtype=float)], axis=1), y


def check_sides(task, positive, negative):
    """Checks labels, dtypes and order, and that no image is there twice; returns the digits of both sides."""
    check_task(task, "task", needs_labels=True)
    assert isinstance(task.x, np.ndarray)
    assert task.x.dtype == task.y.dtype == np.float64
    assert task.y.tolist() == [1.0] * positive + [-1.0] * negative
    assert len(np.unique(task.x[:, 1])) == positive + negative
    return task.x[:positive, 0], task.x[positive:, 0]


@pytest.mark.parametrize(("rows", "count"), [(None, 7), (4, 4)])
def test_a_single_digit_is_its_images_in_order(images, rows, count):
    x, y = images
    task = SingleDigit(1).task(x, y, rows)
    check_sides(task, count, 0)
    np.testing.assert_array_equal(task.x, x[y == 1][:count])


@pytest.mark.parametrize(("rows", "count"), [(None, 7), (4, 4)])
def test_a_digit_against_another_is_balanced(images, rows, count):
    x, y = images
    task = DigitVersus(3, 1).task(x, y, rows)
    check_sides(task, count, count)
    np.testing.assert_array_equal(task.x, np.concatenate([x[y == 3][:count], x[y == 1][:count]]))


@pytest.mark.parametrize(("digit", "rows", "count"), [(3, None, 30), (3, 20, 20), (3, 4, 4), (0, 18, 18), (4, None, 5)])
def test_a_digit_against_the_rest_is_balanced_and_even(images, digit, rows, count):
    x, y = images
    task = DigitVersusRest(digit).task(x, y, rows)
    positive, negative = check_sides(task, count, count)
    np.testing.assert_array_equal(task.x[:count], x[y == digit][:count])
    assert set(positive) == {digit}
    drawn = np.delete(np.bincount(negative.astype(int), minlength=10), digit)
    assert np.bincount(negative.astype(int), minlength=10)[digit] == 0
    assert drawn.max() - drawn.min() == (count % 9 > 0)


def test_the_draw_of_the_rest_is_fixed_and_is_not_the_first_images(images):
    x, y = images
    task, again = (DigitVersusRest(3).task(x, y, 27) for _ in range(2))
    np.testing.assert_array_equal(task.x, again.x)
    drawn = task.x[27:]
    assert any(set(drawn[drawn[:, 0] == digit, 1]) != set(x[y == digit][:3, 1]) for digit in range(10) if digit != 3)


@pytest.mark.parametrize(
    ("kind", "available"),
    [(SingleDigit(3), 30), (DigitVersus(3, 4), 5), (DigitVersusRest(3), 30), (DigitVersusRest(0), 20)],
)
def test_more_rows_than_there_are_is_an_error_and_all_of_them_is_not(images, kind, available):
    x, y = images
    assert kind.available(y) == available
    assert (kind.task(x, y, available).y == 1).sum() == available
    for rows in (available + 1, 0, -1):
        with pytest.raises(
            InputError, match=rf"^rows: .* has {available} rows a side, got {rows}; ask for 1 to {available}$"
        ):
            kind.task(x, y, rows)


def test_the_rest_is_limited_by_its_rarest_digit(images):
    x, y = images
    kept = (y != 4) | (np.cumsum(y == 4) <= 2)
    assert DigitVersusRest(3).available(y[kept]) == 18
    check_sides(DigitVersusRest(3).task(x[kept], y[kept]), 18, 18)


@pytest.mark.parametrize("kind", [SingleDigit(4), DigitVersus(4, 1), DigitVersus(1, 4), DigitVersusRest(1)])
def test_a_digit_that_is_not_there_is_an_error(images, kind):
    x, y = images
    with pytest.raises(InputError, match=r"^y: has no images for .*; give"):
        kind.task(x[y != 4], y[y != 4])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SingleDigit(10), "^digit: needs a digit from 0 to 9, got 10$"),
        (lambda: DigitVersusRest(-1), "^digit: needs a digit from 0 to 9, got -1$"),
        (lambda: DigitVersus(10, 1), "^digit: needs a digit"),
        (lambda: DigitVersus(1, 10), "^other: needs a digit"),
        (lambda: DigitVersus(3, 3), "^other: is 3, as digit is; give two different digits$"),
    ],
)
def test_tasks_of_no_digit_cannot_be_made(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        (SingleDigit(3), "images of digit 3"),
        (DigitVersus(9, 0), "digit 9 against digit 0"),
        (DigitVersusRest(4), "digit 4 against all others"),
    ],
)
def test_every_task_has_a_title(kind, title):
    assert kind.title == title


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("3", SingleDigit(3)),
        ("0v1", DigitVersus(0, 1)),
        ("9v0", DigitVersus(9, 0)),
        ("3vrest", DigitVersusRest(3)),
        ("0vrest", DigitVersusRest(0)),
    ],
)
def test_texts_are_read(text, kind):
    assert parse_digit_task(text, "primary") == kind


@pytest.mark.parametrize("text", ["", "x", "10", "3v3", "3v", "v3", "3v10", "3vrests", "0v1v2", "-1", " 3", "3\n", "٣"])
def test_other_texts_are_errors_with_examples(text):
    with pytest.raises(
        InputError, match=r"^harmful: .* is no digit task; write one like 3, 0v1 .* or 3vrest$"
    ) as raised:
        parse_digit_task(text, "harmful")
    assert repr(text) in str(raised.value)
    assert "\n" not in str(raised.value)
