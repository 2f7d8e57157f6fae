"""Rows that no defence sees: a share of each class, the same every time, and nobody's twice."""

import numpy as np
import pytest

from cimm_jax.data.image_set import ArrayPixels, ImageSet
from cimm_jax.data.reserved import chosen_images, heldout_rows, reserved_rows, rows_of_each_class
from cimm_jax.errors import InputError

LABELS = np.asarray([0] * 10 + [1] * 4 + [2] * 2)


@pytest.mark.parametrize(
    ("share", "counts"), [(0.5, (5, 2, 1)), (0.01, (1, 1, 1)), (0.99, (9, 3, 1)), (0.3, (3, 1, 1))]
)
def test_a_share_of_each_class_is_reserved_and_something_is_left(share, counts):
    left, taken = reserved_rows(LABELS, share, "rows")
    assert np.array_equal(np.sort(np.concatenate([left, taken])), np.arange(len(LABELS)))
    assert np.bincount(LABELS[taken]).tolist() == list(counts)
    assert (np.diff(left) > 0).all()
    assert (np.diff(taken) > 0).all()


def test_nothing_is_reserved_by_a_share_of_zero_and_the_draw_is_the_same_every_time():
    left, taken = reserved_rows(LABELS, 0.0, "rows")
    assert (left.tolist(), len(taken)) == (list(range(16)), 0)
    first, again = (reserved_rows(LABELS, 0.5, "rows")[1] for _ in range(2))
    assert np.array_equal(first, again)
    assert first.tolist() != sorted([*range(5), 10, 11, 14]), "rows are drawn, not taken from the front"


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(InputError, match="reserve: needs a share from 0 to below 1"):
        reserved_rows(LABELS, share, "rows")


def test_a_class_of_one_row_cannot_be_shared():
    with pytest.raises(InputError, match="class 1 of the harmful images has one training row"):
        reserved_rows(np.asarray([0, 0, 1]), 0.5, "harmful images")


def test_chosen_images_are_those_asked_for_and_have_a_checksum_of_their_own():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    images = ImageSet(ArrayPixels(pixels), np.arange(5), tuple("abcde"), "all")
    rows = np.asarray([3, 1])
    some = chosen_images(images, rows)
    assert np.array_equal(np.concatenate(list(some.batches(2))), pixels[rows])
    assert some.labels.tolist() == [3, 1]
    assert some.classes == images.classes
    with some.pixels.original(0) as original:
        assert np.array_equal(original, pixels[3])
    others = {chosen_images(images, np.asarray(of)).sha256 for of in ([3, 1], [1, 3], [0, 1])}
    assert len(others | {images.sha256}) == 4
    assert chosen_images(images, np.arange(5)) is images


def test_rows_of_each_class_are_all_of_them_in_another_order():
    found = rows_of_each_class(LABELS, np.random.default_rng(0))
    assert {label: sorted(rows) for label, rows in found.items()} == {
        label: np.flatnonzero(label == LABELS).tolist() for label in (0, 1, 2)
    }
    assert found[0].tolist() != sorted(found[0])


def test_held_out_rows_are_a_share_whatever_their_class_and_something_is_left():
    for count, share, held in ((10, 0.3, 3), (10, 0.01, 1), (3, 0.99, 2)):
        left, taken = heldout_rows(count, share)
        assert len(taken) == held
        assert sorted([*left, *taken]) == list(range(count))
        assert (np.diff(left) > 0).all()
    assert heldout_rows(1000, 0.3)[1].tolist() == heldout_rows(1000, 0.3)[1].tolist() != list(range(300))
