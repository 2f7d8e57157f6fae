import jax
import numpy as np
import pytest

from cimm_jax.data.digit_images import DigitImages
from cimm_jax.data.digit_pairs import DigitKind, digit_kind, ordered_pairs, split_pair, sweep_splits
from cimm_jax.data.digit_tasks import DigitVersus, DigitVersusRest, SingleDigit
from cimm_jax.data.digits import load_digits_8x8
from cimm_jax.errors import InputError
from cimm_jax.tasks import TaskPair, check_pair


@pytest.fixture(scope="module")
def images():
    return load_digits_8x8()


def rarest(y, sides=1):
    return np.bincount(y).min() * sides


def test_the_ninety_ordered_pairs():
    pairs = ordered_pairs()
    assert len(pairs) == len(set(pairs)) == 90
    assert all(primary != harmful and {primary, harmful} <= set(range(10)) for primary, harmful in pairs)


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("single", SingleDigit(0), SingleDigit(9)),
        ("versus", DigitVersus(0, 1), DigitVersus(9, 0)),
        ("rest", DigitVersusRest(0), DigitVersusRest(9)),
    ],
)
def test_kinds_by_name(name, first, last):
    kind = digit_kind(name)
    assert (kind.task_for(0), kind.task_for(9)) == (first, last)


def test_an_unknown_kind_is_an_error_with_the_known_ones():
    with pytest.raises(InputError, match=r"^kind: 'pairs' is unknown; choose one of single, versus, rest$"):
        digit_kind("pairs")


def test_a_pair_takes_each_part_from_its_own_images(images):
    split = split_pair(images, DigitVersus(0, 1), SingleDigit(2), rows=20, heldout_rows=10)
    expected = {
        "train": (images.train_x, images.train_y, 20),
        "heldout": (images.heldout_x, images.heldout_y, 10),
    }
    for part, (x, y, rows) in expected.items():
        pair = getattr(split, part)
        check_pair(pair, part, needs_labels=True)
        np.testing.assert_array_equal(pair.primary.x, np.concatenate([x[y == 0][:rows], x[y == 1][:rows]]))
        np.testing.assert_array_equal(pair.harmful.x, x[y == 2][:rows])


def test_a_pair_takes_all_rows_unless_told(images):
    split = split_pair(images, SingleDigit(3), SingleDigit(4))
    for part, y in ((split.train, images.train_y), (split.heldout, images.heldout_y)):
        assert (len(part.primary.x), len(part.harmful.x)) == ((y == 3).sum(), (y == 4).sum())


@pytest.mark.parametrize("asked", [{"rows": 1000}, {"heldout_rows": 1000}])
def test_a_pair_with_too_many_rows_is_an_error(images, asked):
    with pytest.raises(InputError, match=r"^rows: SingleDigit\(digit=3\) has .* got 1000"):
        split_pair(images, SingleDigit(3), SingleDigit(4), **asked)


@pytest.mark.parametrize(("kind", "sides"), [(DigitKind.SINGLE, 1), (DigitKind.VERSUS, 2), (DigitKind.REST, 2)])
def test_a_sweep_holds_the_tasks_of_every_pair_with_the_most_rows_that_all_have(images, kind, sides):
    pairs, split = sweep_splits(images, kind)
    assert pairs == ordered_pairs()
    for part, x, y in (
        (split.train, images.train_x, images.train_y),
        (split.heldout, images.heldout_x, images.heldout_y),
    ):
        rows = min(kind.task_for(digit).available(y) for digit in range(10))
        assert rows == rarest(y)
        assert jax.tree.map(np.shape, part.primary) == ((90, sides * rows, 64), (90, sides * rows))
        for row, (primary, harmful) in enumerate(pairs):
            alone = TaskPair(kind.task_for(primary).task(x, y, rows), kind.task_for(harmful).task(x, y, rows))
            jax.tree.map(lambda stack, one, row=row: np.testing.assert_array_equal(stack[row], one), part, alone)


def test_the_rarest_side_of_the_most_constrained_task_decides():
    counts = [9, 9, 9, 9, 1, 9, 9, 9, 9, 9]
    y = np.repeat(np.arange(10), counts)
    x = np.arange(2.0 * len(y)).reshape(-1, 2)
    many = np.repeat(np.arange(10), 9)
    uneven = DigitImages(np.arange(2.0 * len(many)).reshape(-1, 2), many, x, y)
    _, split = sweep_splits(uneven, DigitKind.SINGLE)
    assert (split.train.primary.x.shape, split.heldout.primary.x.shape) == ((90, 9, 2), (90, 1, 2))


@pytest.mark.parametrize("wide", [False, True])
def test_a_sweep_is_float64_on_the_host_whatever_jax_is_set_to(images, wide):
    with jax.enable_x64(wide):
        _, split = sweep_splits(images, DigitKind.VERSUS, rows=3, heldout_rows=2)
        assert jax.config.jax_enable_x64 is wide
    assert {(type(leaf), leaf.dtype) for leaf in jax.tree.leaves(split)} == {(np.ndarray, np.dtype("float64"))}
    np.testing.assert_array_equal(split.train.primary.x[0], DigitVersus(0, 1).task(images.train_x, images.train_y, 3).x)


def test_rows_are_capped(images):
    _, split = sweep_splits(images, DigitKind.VERSUS, rows=5, heldout_rows=3)
    assert (split.train.harmful.x.shape, split.heldout.harmful.x.shape) == ((90, 10, 64), (90, 6, 64))


@pytest.mark.parametrize(("argument", "part"), [("rows", "train_y"), ("heldout_rows", "heldout_y")])
@pytest.mark.parametrize("excess", ["one", "zero", "more"])
def test_rows_that_not_every_task_has_are_an_error(images, argument, part, excess):
    available = rarest(getattr(images, part))
    rows = {"one": 1, "zero": 0, "more": available + 1}[excess]
    message = f"^{argument}: every task has {available} rows a side, got {rows}; ask for 2 to {available}$"
    with pytest.raises(InputError, match=message):
        sweep_splits(images, DigitKind.REST, **{argument: rows})
