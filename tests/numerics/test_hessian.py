import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.errors import InputError
from cimm_jax.numerics.hessian import covariance, probe_hessian, streamed_covariance, symmetric


@pytest.mark.parametrize("shape", [(20, 5), (3, 7), (1, 4), (6, 20, 5), (2, 3, 20, 5)])
def test_covariance_is_uncentred_and_not_divided(rng, shape):
    x = rng.standard_normal(shape) + 2.0
    k = covariance(jnp.asarray(x))
    assert k.shape == (*shape[:-2], shape[-1], shape[-1])
    np.testing.assert_allclose(k, np.einsum("...ni,...nj->...ij", x, x), rtol=1e-12)
    np.testing.assert_array_equal(k, k.mT)


def test_covariance_maps_and_compiles(rng):
    x = jnp.asarray(rng.standard_normal((4, 20, 5)))
    np.testing.assert_allclose(jax.jit(jax.vmap(covariance))(x), covariance(x), rtol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_is_kept(dtype):
    x = jnp.ones((3, 2), dtype)
    assert covariance(x).dtype == streamed_covariance([x, x]).dtype == probe_hessian(x.T, covariance(x.T)[:2, :2]).dtype


WHOLE = {
    "pixels": (np.full((10, 2), 200, np.uint8), 400_000.0),
    "negative": (np.full((10, 2), -100, np.int8), 100_000.0),
    "booleans": (np.ones((10, 2), bool), 10.0),
    "many": (np.full((10, 2), 3_000_000, np.int32), 9e13),
    "float16": (np.full((10, 2), 2048, np.float16), 10 * 2048.0**2),
    "bfloat16": (jnp.full((10, 2), 3, jnp.bfloat16), 90.0),
    "a list": ([[7, 7]] * 10, 490.0),
    "no rows": (np.ones((0, 2)), 0.0),
}


@pytest.mark.parametrize(("x", "entry"), WHOLE.values(), ids=WHOLE)
def test_no_sum_wraps_around(x, entry):
    expected = np.full((2, 2), entry)
    np.testing.assert_array_equal(covariance(x), expected)
    np.testing.assert_array_equal(streamed_covariance([x, x]), 2 * expected)
    if not isinstance(x, list):
        np.testing.assert_array_equal(jax.jit(covariance)(jnp.asarray(x)), expected)


def test_batches_of_several_dtypes_are_added_in_the_widest(rng):
    x = rng.standard_normal((4, 3))
    k = streamed_covariance([x.astype(np.float16), jnp.asarray(x, jnp.float32), x])
    assert k.dtype == jnp.float64
    np.testing.assert_allclose(k, 3 * x.T @ x, rtol=1e-2)


@pytest.mark.parametrize("cuts", [[], [7], [1, 2, 19], [5, 10, 15]])
def test_streamed_covariance_is_the_dense_one(rng, cuts):
    x = rng.standard_normal((20, 5))
    streamed = streamed_covariance(jnp.asarray(batch) for batch in np.split(x, cuts))
    np.testing.assert_allclose(streamed, covariance(jnp.asarray(x)), rtol=1e-12)


@pytest.mark.parametrize("width", [3, 5, 7])
@pytest.mark.parametrize("batch", [(), (4,)])
def test_probe_hessian_is_theta_k_theta(rng, batch, width):
    theta, x = rng.standard_normal((*batch, 5, width)), rng.standard_normal((*batch, 20, 5))
    h = probe_hessian(jnp.asarray(theta), covariance(jnp.asarray(x)))
    np.testing.assert_allclose(h, theta.mT @ x.mT @ x @ theta, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(h, h.mT)


def test_probe_hessian_is_the_hessian_of_the_probe_loss(rng):
    x, theta = jnp.asarray(rng.standard_normal((20, 5))), jnp.asarray(rng.standard_normal((5, 4)))
    y = jnp.asarray(rng.standard_normal(20))

    def loss(w):
        return jnp.sum((x @ theta @ w - y) ** 2) / 2

    np.testing.assert_allclose(probe_hessian(theta, covariance(x)), jax.hessian(loss)(jnp.ones(4)), rtol=1e-10)


def test_symmetric_keeps_the_symmetric_part(rng):
    s = jnp.asarray(rng.standard_normal((3, 4, 4)))
    np.testing.assert_allclose(symmetric(s) + (s - s.mT) / 2, s, rtol=1e-12)


SHARDED = textwrap.dedent("""
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec
    from cimm_jax.numerics.hessian import covariance

    jax.config.update("jax_enable_x64", True)
    assert len(jax.devices()) == 8
    dense = jnp.asarray(np.random.default_rng(0).standard_normal((64, 5)))
    for axis_types in ((AxisType.Auto,) * 2, (AxisType.Explicit,) * 2, (AxisType.Explicit, AxisType.Auto)):
        mesh = jax.make_mesh((8, 1), ("rows", "columns"), axis_types=axis_types)
        x = jax.device_put(dense, NamedSharding(mesh, PartitionSpec("rows")))
        assert len(x.sharding.device_set) == 8, x.sharding
        assert {shard.data.shape for shard in x.addressable_shards} == {(8, 5)}
        compiled = jax.jit(covariance).lower(x).compile()
        assert "all-reduce" in compiled.as_text() and "all-gather" not in compiled.as_text()
        k = compiled(x)
        assert len(k.sharding.device_set) == 8 and k.sharding.is_fully_replicated
        np.testing.assert_allclose(k, covariance(dense), rtol=1e-12)
        np.testing.assert_array_equal(k, k.mT)
    print("equal")
""")


def test_covariance_of_rows_sharded_over_devices_is_the_dense_one():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: covariance(jnp.ones(3)), r"^x: needs shape \(\.\.\., rows, features\), got \(3,\)"),
        (lambda: streamed_covariance([]), "^batches: is empty"),
        (lambda: streamed_covariance([jnp.ones((2, 3)), jnp.ones((2, 4))]), r"^batches\[1\]: has 4 features .* 3"),
        (lambda: streamed_covariance([jnp.ones(3)]), r"^batches\[0\]: needs shape"),
        (lambda: streamed_covariance([jnp.ones(())]), r"^batches\[0\]: needs shape"),
        (lambda: streamed_covariance([jnp.ones((2, 3)), 1j * np.ones((2, 3))]), r"^batches\[1\]: needs real numbers"),
        (lambda: covariance(1j * np.ones((2, 2))), "^x: needs real numbers, got complex128"),
        (lambda: covariance([[1, 2], [3]]), "^x: needs an array of numbers, got list"),
        (lambda: covariance([[2**60, 1]]), "^x: has whole numbers beyond"),
        (lambda: jax.jit(covariance)(np.array([[2**60, 1]])), "^x: needs a floating-point dtype, got int64"),
        (lambda: probe_hessian(jnp.ones(3), jnp.eye(3)), r"^theta, k: need shapes .* got \(3,\) and \(3, 3\)"),
        (lambda: probe_hessian(jnp.eye(3), jnp.ones((3, 2))), r"^theta, k: need shapes .* got \(3, 3\) and \(3, 2\)"),
        (lambda: probe_hessian(jnp.ones((2, 2)), jnp.eye(3)), "^theta: has 2 rows and k has 3"),
    ],
)
def test_bad_shapes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
