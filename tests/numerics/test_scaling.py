"""Powers of two: exact to the last bit, over the whole range of numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.numerics.scaling import MATRIX, VALUES, normalised, scaled, within_range

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def powers(dtype):
    info = np.finfo(dtype)
    return [info.minexp + 2, info.minexp // 2, -70, -9, -2, 0, 2, 9, 70, info.maxexp // 2, info.maxexp - 1]


def entries(rng, *shape):
    return rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape)


@dtypes
def test_values_times_the_power_are_the_array_to_the_last_bit(rng, dtype):
    for power in powers(dtype):
        array = np.ldexp(entries(rng, 3, 4, 5).astype(dtype), power)
        for make in (normalised, jax.jit(normalised), jax.vmap(normalised)):
            values, exponent = make(jnp.asarray(array))
            assert values.dtype == dtype
            assert exponent.dtype == jnp.int32
            np.testing.assert_array_equal(np.ldexp(values, np.asarray(exponent)[:, None, None]), array)
            np.testing.assert_array_equal(scaled(values, exponent[:, None, None]), array)
            ordinary = abs(power) < np.finfo(dtype).maxexp // 16
            largest = np.abs(values).max((1, 2))
            assert (np.asarray(exponent) == 0).all() if ordinary else ((largest >= 0.5) & (largest < 1)).all()


@dtypes
def test_each_member_of_a_batch_has_its_own_power(rng, dtype):
    exponents = np.array([-100, 0, 100])
    array = np.ldexp(entries(rng, 3, 4).astype(dtype), exponents[:, None])
    values, exponent = normalised(jnp.asarray(array), VALUES)
    np.testing.assert_array_equal(exponent[1], 0)
    np.testing.assert_array_equal(np.ldexp(values, np.asarray(exponent)[:, None]), array)
    whole = normalised(jnp.asarray(array), MATRIX)
    assert whole.exponent.shape == ()
    assert int(whole.exponent) == 100


@pytest.mark.parametrize("strange", [np.nan, np.inf, 0.0])
def test_what_has_no_size_stays_as_it_is(strange):
    array = np.array([[strange, 0.0], [0.0, 0.0]])
    for values, exponent in (normalised(jnp.asarray(array)), jax.jit(normalised)(array)):
        np.testing.assert_array_equal(values, array)
        assert int(exponent) == 0


@dtypes
def test_scaling_reaches_beyond_the_range_and_stays_there(dtype):
    info = np.finfo(dtype)
    far = jnp.asarray(4 * info.maxexp, jnp.int32)
    for value in (info.smallest_normal, 1.0, info.max):
        assert np.isposinf(scaled(jnp.asarray(value, dtype), far))
        assert scaled(jnp.asarray(value, dtype), -far) == 0
    assert scaled(jnp.zeros((), dtype), far) == 0, "zero times anything is zero, not NaN"
    across = scaled(jnp.asarray(info.smallest_normal, dtype), jnp.asarray(info.maxexp - 1 - info.minexp, jnp.int32))
    assert across == np.ldexp(np.ones((), dtype), info.maxexp - 1)


def test_for_derivatives_the_power_is_a_constant():
    array = jnp.array([[1e-200, 2e-200], [3e-200, -4e-200]])
    gradient = jax.grad(lambda a: normalised(a).values.sum())(array)
    exponent = int(normalised(array).exponent)
    np.testing.assert_array_equal(gradient, np.ldexp(np.ones((2, 2)), -exponent))


def test_what_overflowed_is_held_where_sums_are_finite():
    held = within_range(jnp.array([jnp.inf, -jnp.inf, jnp.inf, 2.0]))
    assert np.isfinite(held[:3].sum())
    assert np.isfinite(np.abs(held).sum())
    assert held[3] == 2
    assert np.isnan(within_range(jnp.array([jnp.nan, 1.0]))[0])
