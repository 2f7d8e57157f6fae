"""Proposition 3.2: where it holds, and what it computes where it does not."""

import jax.numpy as jnp
import numpy as np
import pytest
from pairs import D, make_pair

from cimm_jax import covariance, probe_hessian
from cimm_jax.measures.proposition import proposition_3_2


def test_it_is_exact_when_theta_and_k_share_eigenvectors():
    k = covariance(make_pair().primary.x)
    vectors = jnp.linalg.eigh(k)[1]
    right = jnp.linalg.qr(jnp.asarray(np.random.default_rng(4).standard_normal((D, D))))[0]
    theta = vectors @ jnp.diag(jnp.arange(1.0, D + 1)) @ right
    result = proposition_3_2(theta, k)
    exact = jnp.linalg.svd(probe_hessian(theta, k), compute_uv=False)
    assert result.off_diagonal < 1e-12
    np.testing.assert_allclose(np.sort(result.values)[::-1], exact, rtol=1e-10)


@pytest.mark.parametrize(("of_theta", "of_k"), [(-600, 900), (600, -1000), (-300, 0)])
def test_it_has_the_units_of_its_arguments(of_theta, of_k):
    rng = np.random.default_rng(0)
    k, theta = covariance(make_pair().primary.x), jnp.asarray(rng.standard_normal((D, D)))
    plain, moved = proposition_3_2(theta, k), proposition_3_2(jnp.ldexp(theta, of_theta), jnp.ldexp(k, of_k))
    np.testing.assert_allclose(moved.off_diagonal, plain.off_diagonal, rtol=1e-9)
    np.testing.assert_allclose(moved.values, np.ldexp(plain.values, 2 * of_theta + of_k), rtol=1e-9)


def test_it_is_a_diagonal_otherwise():
    theta = jnp.diag(jnp.array([2.0, 1.0]))  # its singular vectors are the axes, and K's are not
    k = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    result = proposition_3_2(theta, k)
    h = probe_hessian(theta, k)
    np.testing.assert_allclose(result.values, jnp.diagonal(h))  # 8 and 2
    exact = jnp.linalg.svd(h, compute_uv=False)  # 5 +- sqrt(13)
    np.testing.assert_allclose(exact, [5 + 13**0.5, 5 - 13**0.5])
    assert result.off_diagonal > 0.1
    np.testing.assert_allclose(result.values.sum(), exact.sum())
    assert result.values.max() < exact[0]
