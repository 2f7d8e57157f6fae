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
