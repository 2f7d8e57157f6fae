import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.errors import InputError
from cimm_jax.numerics import host_products
from cimm_jax.numerics.covariance_sums import CovarianceSum
from cimm_jax.numerics.hessian import covariance, streamed_covariance
from cimm_jax.numerics.host_products import ROWS_AT_ONCE, as_host


def exact(x):
    x = np.asarray(x, np.float64)
    return x.mT @ x


def off(found, expected):
    return np.abs(np.asarray(found, np.float64) - expected).max() / np.abs(expected).max()


LAYOUTS = {
    "rows": lambda x: x,
    "columns": np.asfortranarray,
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "read only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "JAX": jnp.asarray,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_are_multiplied_however_they_lie_in_memory(rng, layout, dtype):
    # Wider than two tiles, longer than a block that is converted at once.
    x = (1 + rng.standard_normal((ROWS_AT_ONCE + 7, 261))).astype(dtype)
    k, total = covariance(layout(x)), CovarianceSum(261)
    assert isinstance(k, jax.Array)
    assert k.dtype == dtype
    total.update(layout(x))
    total.update(layout(x[:5]))
    assert total.rows == ROWS_AT_ONCE + 12
    assert off(k, exact(x)) < 20 * np.finfo(dtype).eps
    assert off(total.value(), exact(x) + exact(x[:5])) < 1e-14
    for found in (k, total.value()):
        np.testing.assert_array_equal(found, found.T)


def test_float32_batches_lose_no_digits_by_being_many(rng):
    batches = [(1 + rng.standard_normal((50, 6))).astype(np.float32) for _ in range(400)]
    # Multiples of 1/4096: their squares and sums are exact in float64.
    batches = [np.round(batch * 64) / 64 for batch in batches]
    expected = exact(np.concatenate(batches))
    k = streamed_covariance(batches)
    assert k.dtype == np.float32
    assert off(k, expected) <= 2**-23
    total = CovarianceSum(6)
    for batch in batches:
        total.update(batch)
    np.testing.assert_array_equal(total.value(), expected)


@pytest.mark.parametrize("x", [np.full((3, 2), 200, np.uint8), jnp.full((3, 2), 200, jnp.bfloat16), [[200, 200]] * 3])
def test_a_sum_takes_what_numpy_reads(x):
    total = CovarianceSum(2)
    total.update(x)
    np.testing.assert_array_equal(total.value(), np.full((2, 2), 120_000.0))


def test_merged_sums_are_the_sum_of_all_rows_and_stay_what_they_were(rng):
    x = rng.standard_normal((20, 5))
    parts = [CovarianceSum(5) for _ in range(2)]
    for part, rows in zip(parts, (x[:7], x[7:]), strict=True):
        part.update(rows)
    both = parts[0].merged(parts[1])
    both.update(x)
    np.testing.assert_allclose(both.value(), 2 * exact(x), rtol=1e-13)
    np.testing.assert_allclose(parts[0].value(), exact(x[:7]), rtol=1e-13)
    assert [both.rows, parts[0].rows, parts[1].rows] == [40, 7, 13]
    np.testing.assert_array_equal(CovarianceSum.of(both.value(), 40).value(), both.value())


def test_a_value_that_was_given_out_does_not_change(rng):
    x = rng.standard_normal((20, 5))
    total = CovarianceSum(5)
    total.update(x)
    value, on_device = total.value(), jax.device_put(total.value())
    total.update(x)
    np.testing.assert_allclose(value, exact(x), rtol=1e-13)
    np.testing.assert_allclose(on_device, value)


def test_what_is_refused_leaves_the_sum_as_it_was(rng):
    x = rng.standard_normal((20, 3))
    total = CovarianceSum(3)
    total.update(x)
    before = total.value()
    bad = np.ones((2 * ROWS_AT_ONCE, 3))
    for place, entry in ((-1, np.nan), (0, -np.inf), (ROWS_AT_ONCE, 1e200)):
        spoilt = bad.copy()
        spoilt[place, 1] = entry
        with pytest.raises(InputError, match=r"^x: has (NaN or infinite entries|numbers whose squares)"):
            total.update(spoilt)
    np.testing.assert_array_equal(total.value(), before)
    assert total.rows == 20
    total.update(np.full((1, 3), 1e30, np.float32))  # whose squares float32 cannot hold, and float64 can
    assert total.value()[0, 0] == pytest.approx(1e60)


def test_only_what_this_cpu_would_multiply_is_on_the_host(monkeypatch):
    x = np.ones((2, 2))
    assert as_host(x) is x
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(host_products, "_default_platform", lambda: "gpu")
        assert as_host(x) is None
    seen = as_host(jnp.asarray(x))
    assert isinstance(seen, np.ndarray)
    found = []
    jax.jit(lambda traced: found.append(as_host(traced)) or traced)(x)
    assert found == [None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda total: CovarianceSum(0), "^features: needs at least 1, got 0"),
        (lambda total: total.update(np.ones((2, 4))), r"^x: needs shape \(rows, 3\), got \(2, 4\)"),
        (lambda total: total.update(np.ones(3)), r"^x: needs shape \(rows, 3\), got \(3,\)"),
        (lambda total: total.update(1j * np.ones((2, 3))), "^x: needs real numbers, got complex128"),
        (lambda total: jax.jit(total.update)(np.ones((2, 3))), "^x: is traced"),
        (lambda total: total.merged(CovarianceSum(4)), "^other: has 4 features and this sum 3"),
        (lambda total: total.merged(np.eye(3)), "^other: needs a CovarianceSum, got ndarray"),
        (lambda total: CovarianceSum.of(np.ones((2, 3)), 1), r"^value: needs shape \(d, d\), got \(2, 3\)"),
        (lambda total: CovarianceSum.of([[1.0, 2.0], [3.0, 1.0]], 1), "^value: is no sum"),
        (lambda total: CovarianceSum.of([[-1.0]], 1), "^value: is no sum"),
        (lambda total: CovarianceSum.of([[np.nan]], 1), "^value: is no sum"),
        (lambda total: CovarianceSum.of(np.eye(2), -1), "^rows: needs at least 0, got -1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(CovarianceSum(3))
