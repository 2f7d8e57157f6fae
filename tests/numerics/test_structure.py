import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.numerics.structure import largest_possible_rank

CASES = {
    "full": (np.ones((3, 4)), 3),
    "a zero row": (np.diag([4.0, 2.0, 0.0]), 2),
    "a zero column": (np.array([[1.0, 0.0], [2.0, 0.0], [3.0, -0.0]]), 1),
    "rows and columns": (np.array([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 0]]), 1),
    "too small to compute with": (np.diag([1.0, 1e-310]), 2),
    "zero": (np.zeros((2, 2)), 0),
}


@pytest.mark.parametrize(("s", "rank"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_bound_the_rank(s, rank, dtype):
    s = np.where((s != 0) & (np.abs(s) < 1e-300), np.finfo(dtype).smallest_subnormal, s).astype(dtype)
    for found in (largest_possible_rank(jnp.asarray(s)), jax.jit(largest_possible_rank)(s)):
        assert found.dtype == jnp.int32
        assert int(found) == rank


def test_each_matrix_of_a_batch_has_its_own():
    batch = jnp.asarray(np.stack([s for s, _ in CASES.values() if s.shape == (3, 3)]))
    np.testing.assert_array_equal(jax.vmap(largest_possible_rank)(batch), largest_possible_rank(batch))
    np.testing.assert_array_equal(largest_possible_rank(batch), [2, 1])
