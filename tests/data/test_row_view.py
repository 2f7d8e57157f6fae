"""Rows that are read when they are asked for, of arrays one after the other."""

import numpy as np
import pytest

from cimm_jax.data.row_view import LazyRows
from cimm_jax.errors import InputError

A, B = np.arange(12, dtype=np.float16).reshape(4, 3), np.arange(100, 109, dtype=np.float16).reshape(3, 3)
BOTH = np.concatenate([A, B]).astype(np.float32)


@pytest.fixture(params=["memory", "file"])
def rows(request, tmp_path):
    if request.param == "memory":
        return LazyRows([A, B], np.float32)
    for name, array in (("a", A), ("b", B)):
        np.save(tmp_path / f"{name}.npy", array)
    return LazyRows([np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "ab"], np.float32)


def test_they_are_the_rows_of_all_arrays(rows):
    assert (rows.shape, rows.dtype, len(rows)) == ((7, 3), np.float32, 7)
    np.testing.assert_array_equal(rows, BOTH)
    np.testing.assert_array_equal(np.stack(list(rows)), BOTH)
    assert np.asarray(rows, np.float64).dtype == np.float64


def test_chunks_go_across_arrays_and_the_last_is_shorter(rows):
    chunks = list(rows.chunks(3))
    assert [len(chunk) for chunk in chunks] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), BOTH)


def test_some_in_an_order_of_their_own_and_some_of_these(rows):
    chosen = rows.choose(np.asarray([6, 0, 4, 3]))
    np.testing.assert_array_equal(chosen, BOTH[[6, 0, 4, 3]])
    np.testing.assert_array_equal(chosen.choose(np.asarray([3, 0])), BOTH[[3, 6]])
    assert chosen.choose(np.arange(0)).shape == (0, 3)


def test_together_they_have_the_widest_type(rows):
    both = rows.followed_by([LazyRows([BOTH.astype(np.float64)], np.dtype(np.float64))])
    assert (both.dtype, both.shape) == (np.float64, (14, 3))
    np.testing.assert_array_equal(both.read(6, 8), BOTH[[6, 0]])
    with pytest.raises(InputError, match="put them together first"):
        rows.choose(np.arange(2)).followed_by([rows])


def test_they_are_never_a_view(rows):
    with pytest.raises(ValueError, match="always copied"):
        np.asarray(rows, copy=False)
