"""Rows of two data sets side by side."""

import numpy as np
import pytest

from cimm_jax import InputError
from cimm_jax.networks.batches import paired_batches


def test_batches_pair_rows_and_the_shorter_data_set_restarts():
    pairs = list(paired_batches(10, 4, 4, epoch=0, seed=0))
    assert [len(p) for pair in pairs for p in pair] == [4] * 4
    assert len(set(np.concatenate([p for p, _ in pairs]))) == 8, "no row of the longer one twice"
    assert sorted(pairs[0][1]) == sorted(pairs[1][1]) == [0, 1, 2, 3]
    again, other = (list(paired_batches(10, 4, 4, epoch=e, seed=0)) for e in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(pairs[0], again[0], strict=True))
    assert not np.array_equal(pairs[0][0], other[0][0])
    with pytest.raises(InputError, match="1 to 4"):
        next(paired_batches(10, 4, 5, epoch=0, seed=0))


def test_batches_of_two_sizes_go_once_through_the_data_set_of_more_batches():
    pairs = list(paired_batches(10, 12, 2, epoch=0, seed=0, harmful_batch_rows=6))
    assert [(len(p), len(h)) for p, h in pairs] == [(2, 6)] * 5
    assert sorted(np.concatenate([p for p, _ in pairs])) == list(range(10))
    assert sorted(np.concatenate([h for _, h in pairs[:2]])) == list(range(12))
    with pytest.raises(InputError, match=r"^harmful_batch_rows: needs 1 to 12 \(the harmful rows\), got 13"):
        next(paired_batches(10, 12, 2, epoch=0, seed=0, harmful_batch_rows=13))
    with pytest.raises(InputError, match=r"^batch_rows: needs 1 to 10 \(the primary rows\), got 11"):
        next(paired_batches(10, 12, 11, epoch=0, seed=0, harmful_batch_rows=2))


def test_rows_of_a_class_come_two_by_two_in_an_order_of_their_own():
    labels = np.random.default_rng(0).permutation(np.arange(60) % 5)

    def order(epoch):
        pairs = paired_batches(60, 60, 60, epoch=epoch, seed=0, harmful_labels=labels)
        return next(iter(pairs))[1]

    first = order(0)
    assert sorted(first) == list(range(60))
    classes = labels[first].reshape(-1, 2)
    assert (classes[:, 0] == classes[:, 1]).all()
    assert len(set(classes[:5, 0])) > 1, "classes are mixed"
    assert not np.array_equal(first, order(1))
    odd = np.asarray([0, 0, 0, 1])
    (_, harmful), *_ = paired_batches(4, 4, 4, epoch=0, seed=3, harmful_labels=odd)
    assert sorted(harmful) == [0, 1, 2, 3], "whoever is alone comes too"
