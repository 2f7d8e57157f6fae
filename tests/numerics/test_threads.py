"""How many threads LAPACK gets."""

import pytest
from threadpoolctl import ThreadpoolController, threadpool_limits

from cimm_jax.numerics.threads import SMALL_MATRIX, blas_threads_for


def threads():
    return {pool["num_threads"] for pool in ThreadpoolController().select(user_api="blas").info()}


@pytest.mark.parametrize(("features", "inside"), [(8, 1), (SMALL_MATRIX, 1), (SMALL_MATRIX + 1, 2)])
def test_small_matrices_get_one_and_large_ones_what_there_are(features, inside):
    with threadpool_limits(2, user_api="blas"):
        if threads() != {2}:
            pytest.skip("this BLAS has one thread, whatever it is told")
        with blas_threads_for(features):
            assert threads() == {inside}
        assert threads() == {2}
