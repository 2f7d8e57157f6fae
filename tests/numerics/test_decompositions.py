"""eigh, svd and qr under vmap: the same answers as the batched kernels, and no hang."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax import InputError
from cimm_jax.numerics import decompositions
from cimm_jax.numerics.spectra import Route, feature_condition_number


@pytest.fixture
def batch():
    return jnp.asarray(np.random.default_rng(0).standard_normal((3, 2, 6, 4)))


@pytest.mark.parametrize("nested_vmaps", [0, 1, 2])
def test_every_decomposition_reproduces_its_matrix(batch, nested_vmaps):
    def reproduce(s):
        u, sigma, vt = decompositions.svd(s)
        q, r = decompositions.qr(s)
        values, vectors = decompositions.eigh(s.mT @ s)
        gram = (vectors * values[..., None, :]) @ vectors.mT
        alone, right = decompositions.right_svd(s)
        squared = (right.mT * alone[..., None, :] ** 2) @ right
        return (u * sigma[..., None, :]) @ vt, q @ r, (gram, squared), decompositions.singular_values(s)

    function = reproduce
    for _ in range(nested_vmaps):
        function = jax.vmap(function)
    from_svd, from_qr, grams, sigma = jax.jit(function)(batch)
    np.testing.assert_allclose(from_svd, batch, atol=1e-12)
    np.testing.assert_allclose(from_qr, batch, atol=1e-12)
    for gram in grams:
        np.testing.assert_allclose(gram, batch.mT @ batch, atol=1e-12)
    np.testing.assert_allclose(sigma, np.linalg.svd(np.asarray(batch), compute_uv=False), atol=1e-12)


def test_singular_values_differentiate_under_vmap_and_where_they_repeat():
    matrices = jnp.stack([jnp.diag(jnp.array([3.0, 2.0])), jnp.eye(2), jnp.zeros((2, 2))])
    gradients = jax.vmap(jax.grad(lambda s: decompositions.singular_values(s).sum()))(matrices)
    np.testing.assert_allclose(gradients[0], np.eye(2), atol=1e-12)
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (2, 6, 4)])
@pytest.mark.parametrize(("decompose", "factors"), [(decompositions.svd, 3), (decompositions.right_svd, 2)])
def test_svd_differentiates_as_finite_differences_do(shape, decompose, factors):
    rng = np.random.default_rng(2)
    s, ds = (jnp.asarray(rng.standard_normal(shape)) for _ in range(2))
    values, derivatives = jax.jvp(decompose, (s,), (ds,))
    for value, plain in zip(values, decompose(s), strict=True):
        np.testing.assert_array_equal(value, plain)
    higher, lower = decompose(s + 1e-6 * ds), decompose(s - 1e-6 * ds)
    assert len(derivatives) == factors
    for found, high, low in zip(derivatives, higher, lower, strict=True):
        np.testing.assert_allclose(found, (high - low) / 2e-6, atol=1e-7)


def test_svd_differentiates_in_reverse_under_vmap_and_at_every_scale():
    rng = np.random.default_rng(3)
    s, weights = jnp.asarray(rng.standard_normal((3, 6, 4))), jnp.asarray(rng.standard_normal((6, 4)))

    def projector(decompose):
        def value(s):
            u, sigma, vt = decompose(s)
            return jnp.sum(weights * (u[:, :2] @ vt[:2])) + sigma[1]

        return jax.vmap(jax.grad(value))

    expected = projector(lambda s: jnp.linalg.svd(s, full_matrices=False))(s)
    np.testing.assert_allclose(projector(decompositions.svd)(s), expected, rtol=1e-8, atol=1e-10)

    def first_directions(s):
        u, _, vt = decompositions.svd(s)
        return jnp.sum(weights * (u[:, :2] @ vt[:2]))

    plain = jax.grad(first_directions)(s[0])
    for power in (-600, 600):
        np.testing.assert_allclose(
            np.ldexp(jax.grad(first_directions)(jnp.ldexp(s[0], power)), power), plain, rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("s", [jnp.eye(3), jnp.zeros((3, 3)), jnp.ones((4, 3)), jnp.diag(jnp.array([2.0, 2.0, 0.0]))])
def test_svd_has_finite_derivatives_where_values_repeat_or_vanish(s):
    for factor in range(3):
        assert np.isfinite(jax.grad(lambda s, factor=factor: decompositions.svd(s)[factor].sum())(s)).all()


def test_qr_says_that_it_has_no_derivative():
    with pytest.raises(InputError, match=r"^qr: has no derivative; differentiate svd"):
        jax.grad(lambda s: decompositions.qr(s)[1].sum())(jnp.eye(3))
    with pytest.raises(InputError, match=r"Route\.SVD"):
        jax.grad(lambda f: feature_condition_number(f, route=Route.QR).kappa)(jnp.eye(3))


def test_eigh_differentiates_as_jax_s_own_under_vmap_and_stays_finite_where_eigenvalues_repeat():
    rng = np.random.default_rng(1)
    s = jnp.asarray(rng.standard_normal((3, 4, 4)))
    weights = jnp.asarray(rng.standard_normal((4, 4)))

    def projector_and_values(decompose):
        def value(s):
            values, vectors = decompose(s + s.T)
            return jnp.sum(weights * (vectors[:, :2] @ vectors[:, :2].T)) + values[0] - 2 * values[3]

        return jax.vmap(jax.grad(value))

    np.testing.assert_allclose(
        projector_and_values(decompositions.eigh)(s), projector_and_values(jnp.linalg.eigh)(s), rtol=1e-9, atol=1e-12
    )
    assert np.isfinite(projector_and_values(decompositions.eigh)(jnp.stack([jnp.eye(4), jnp.zeros((4, 4))]))).all()


def test_many_independent_batches_in_one_program_do_not_hang():
    # With the library's batched kernels this program hangs on two cores; a process of its own can be given up on.
    program = """
        import jax, jax.numpy as jnp
        from cimm_jax.numerics import decompositions as d
        batches = [jax.random.normal(jax.random.key(i), (64, 48, 32)) for i in range(8)]
        def one(s):
            return d.singular_values(s), d.eigh(s.T @ s), d.qr(s)
        jax.block_until_ready(jax.jit(lambda b: [jax.vmap(one)(s) for s in b])(batches))
        print("finished")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip() == "finished"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("transposed", [False, True])
def test_many_equal_columns_do_not_give_nan(dtype, transposed):
    # Constant columns around rarely lit ones, as the border of MNIST: without the mixing LAPACK gives NaN for about a
    # quarter of such matrices in float64, this one among them.
    rng = np.random.default_rng(5)
    columns = np.full((2000, 250), -0.1307 / 0.3081)
    columns[:, 100:150] += np.where(rng.random((2000, 50)) < 5e-4, rng.random((2000, 50)), 0)
    matrix = jnp.asarray(columns.T if transposed else columns, dtype)
    expected = np.linalg.svd(columns, compute_uv=False)
    tolerance = 100 * float(jnp.finfo(dtype).eps) * expected[0]
    u, sigma, vt = decompositions.svd(matrix)
    np.testing.assert_allclose(sigma, expected, atol=tolerance)
    np.testing.assert_allclose(decompositions.singular_values(matrix), expected, atol=tolerance)
    np.testing.assert_allclose((u * sigma[None, :]) @ vt, matrix, atol=tolerance)
    alone, right = decompositions.right_svd(matrix)
    np.testing.assert_allclose(alone, expected, atol=tolerance)
    np.testing.assert_allclose(right @ right.T, np.eye(len(alone)), atol=100 * tolerance / expected[0])
    assert sigma.dtype == dtype


FOR_EVER = """
import jax, numpy as np
from cimm_jax.numerics import decompositions

for name in ("svd", "right_svd", "singular_values", "eigh", "qr"):
    decompose = getattr(decompositions, name)
    for shape in ((3, 3),) if name == "eigh" else ((3, 3), (6, 4), (4, 6)):
        for strange in (np.inf, -np.inf, np.nan):
            matrices = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
            matrices[1, 0, 0] = strange
            alone = jax.tree.leaves(decompose(matrices[0]))
            for made in (decompose, jax.vmap(decompose)):
                for factor, known in zip(jax.tree.leaves(made(matrices)), alone, strict=True):
                    assert np.array_equal(factor[0], known) and np.isnan(factor[1]).all(), (name, shape, strange)
"""


def test_a_matrix_that_is_not_finite_has_factors_of_nan():
    """LAPACK never returned from the SVD of one with an infinite entry; in a process of its own, which can be killed."""
    subprocess.run([sys.executable, "-c", FOR_EVER], check=True, timeout=120)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("shape", [(7, 7), (9, 5), (5, 9)])
def test_where_divide_and_conquer_does_not_converge_the_factors_are_those_of_qr_iteration(monkeypatch, shape, dtype):
    quick_svd = decompositions._quick_svd

    def fails(s):
        return jax.tree.map(lambda factor: jnp.full_like(factor, jnp.nan), quick_svd(s))

    s = jnp.asarray(np.random.default_rng(0).standard_normal((2, *shape)), dtype)
    quick = decompositions.svd(s)
    monkeypatch.setattr(decompositions, "_quick_svd", fails)
    u, sigma, vt = jax.jit(decompositions.svd)(s)
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(sigma, quick[1], rtol=100 * eps)
    np.testing.assert_allclose((u * sigma[:, None, :]) @ vt, s, atol=100 * eps)
    np.testing.assert_allclose(decompositions.right_svd(s)[0], sigma, rtol=100 * eps)
    assert not jnp.isfinite(jax.jit(decompositions.svd)(s.at[1, 0, 0].set(jnp.inf))[0][1]).any()
