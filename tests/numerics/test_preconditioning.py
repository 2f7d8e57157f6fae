import jax
import jax.numpy as jnp
import numpy as np
import optax
import prescribed
import pytest

from cimm_jax.errors import InputError
from cimm_jax.numerics.preconditioning import (
    apply_preconditioner,
    precondition_gradient,
    preconditioned_gram,
    preconditioner,
    scale_by_inverse_covariance,
)

SPECTRA = {"full rank": [4.0, 2.0, 1.0, 0.1], "repeated": [4.0, 1.0, 1.0, 1.0], "singular": [4.0, 2.0, 0.0, 0.0]}
spectra = pytest.mark.parametrize("sigma", SPECTRA.values(), ids=SPECTRA.keys())


def test_the_layer_is_the_identity_forward(rng):
    theta, k = jnp.asarray(rng.standard_normal((4, 3))), prescribed.covariance(rng, [3.0, 2.0, 1.0, 0.0])
    np.testing.assert_array_equal(precondition_gradient(theta, preconditioner(k)), theta)


@spectra
@pytest.mark.parametrize("compiled", [False, True])
def test_the_layer_multiplies_the_gradient_by_the_pseudo_inverse_from_the_left(rng, sigma, compiled):
    k = jnp.asarray(prescribed.covariance(rng, sigma))
    theta, target = jnp.asarray(rng.standard_normal((2, 4, 4)))

    def loss(theta):
        return jnp.sum(jnp.sin(theta) * target)

    def preconditioned_loss(theta, k):
        return loss(precondition_gradient(theta, preconditioner(k)))

    gradient = jax.grad(preconditioned_loss)
    found = (jax.jit(gradient) if compiled else gradient)(theta, k)
    plain, inverse = jax.grad(loss)(theta), np.linalg.pinv(k)
    assert prescribed.relative_error(found, inverse @ plain) < 1e-10
    assert prescribed.relative_error(found, plain @ inverse) > 0.1  # which is what the released code does


def test_the_layer_sends_no_gradient_to_k(rng):
    k = jnp.asarray(prescribed.covariance(rng, [3.0, 1.0]))
    assert (jax.grad(lambda k: precondition_gradient(jnp.ones((2, 2)), preconditioner(k)).sum())(k) == 0).all()


@pytest.mark.parametrize("k", [jnp.zeros((3, 3)), jnp.ones((3, 3)), jnp.diag(jnp.array([1.0, 1e-300, 0.0]))])
def test_singular_k_is_inverted_on_its_range_without_overflow(k):
    applied = apply_preconditioner(preconditioner(k), jnp.eye(3))
    np.testing.assert_allclose(applied, np.linalg.pinv(k, rtol=1e-12), atol=1e-12)


@spectra
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_ridge_is_in_units_of_the_mean_eigenvalue(rng, sigma, ridge):
    k, gradient = prescribed.covariance(rng, sigma), jnp.asarray(rng.standard_normal((4, 3)))
    expected = np.linalg.solve(k + ridge * np.trace(k) / 4 * np.eye(4), gradient)
    applied = apply_preconditioner(preconditioner(k, relative_ridge=ridge), gradient)
    assert prescribed.relative_error(applied, expected) < 1e-10
    scaled = apply_preconditioner(preconditioner(1e3 * k, relative_ridge=ridge), gradient)
    assert prescribed.relative_error(1e3 * scaled, expected) < 1e-10


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 3), (4, 2, 3)])
def test_gradients_of_any_trailing_shape_keep_it(rng, shape):
    k, gradient = prescribed.covariance(rng, [4.0, 3.0, 2.0, 1.0]), rng.standard_normal(shape)
    applied = apply_preconditioner(preconditioner(k), jnp.asarray(gradient))
    np.testing.assert_allclose(applied, np.einsum("ij,j...->i...", np.linalg.inv(k), gradient), rtol=1e-10)


def test_float32_stays_float32(rng):
    k = jnp.asarray(prescribed.covariance(rng, [2.0, 1.0]), jnp.float32)
    gradient = jax.grad(lambda theta: precondition_gradient(theta, preconditioner(k)).sum())(jnp.ones((2, 2), k.dtype))
    assert gradient.dtype == jnp.float32


# --- the optax transformation ---


@spectra
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_the_transformation_is_the_layer(rng, sigma, ridge):
    k = jnp.asarray(prescribed.covariance(rng, sigma))
    params = {"theta": jnp.asarray(rng.standard_normal((4, 3))), "bias": jnp.asarray(rng.standard_normal(4))}
    p = preconditioner(k, relative_ridge=ridge)

    def loss(params):
        return sum(jnp.sum(leaf**3) for leaf in jax.tree.leaves(params))

    by_layer = jax.grad(lambda params: loss(jax.tree.map(lambda leaf: precondition_gradient(leaf, p), params)))(params)
    transformation = scale_by_inverse_covariance(k, relative_ridge=ridge)
    updates, _ = transformation.update(jax.grad(loss)(params), transformation.init(params))
    for name in params:
        np.testing.assert_allclose(updates[name], by_layer[name], rtol=1e-12)


@pytest.mark.parametrize("optimizer", [optax.sgd(0.1), optax.sgd(0.1, momentum=0.9), optax.adam(0.1)])
def test_the_transformation_chains_with_any_optimizer(rng, optimizer):
    k = jnp.asarray(prescribed.covariance(rng, [4.0, 2.0, 1.0]))
    theta, gradient = jnp.ones((3, 2)), jnp.asarray(rng.standard_normal((3, 2)))
    chained = optax.chain(scale_by_inverse_covariance(k), optimizer)
    with jax.numpy_dtype_promotion("standard"):  # optax's own optimizers promote
        updates, _ = jax.jit(chained.update)(gradient, chained.init(theta), theta)
        expected, _ = optimizer.update(jnp.linalg.inv(k) @ gradient, optimizer.init(theta), theta)
    np.testing.assert_allclose(updates, expected, rtol=1e-8)


def test_masked_parameters_are_left_alone(rng):
    k = jnp.asarray(prescribed.covariance(rng, [4.0, 2.0, 1.0]))
    params = {"theta": jnp.ones((3, 2)), "head": jnp.ones(2)}
    masked = optax.masked(scale_by_inverse_covariance(k), {"theta": True, "head": False})
    updates, _ = masked.update(params, masked.init(params))
    np.testing.assert_array_equal(updates["head"], params["head"])
    np.testing.assert_allclose(updates["theta"], jnp.linalg.inv(k) @ params["theta"], rtol=1e-10)


@pytest.mark.parametrize("shape", [(9, 4), (3, 4)], ids=str)
def test_the_gram_s_gradient_comes_through_the_inverse_from_the_right(rng, shape):
    """On the range of S, if there are fewer rows than features."""
    features = jnp.asarray(rng.standard_normal(shape))
    weights = rng.standard_normal((4, 4))
    np.testing.assert_allclose(preconditioned_gram(features), features.T @ features, rtol=1e-12, atol=1e-12)
    got = jax.grad(lambda f: jnp.sum(weights * preconditioned_gram(f)))(features)
    plain = jax.grad(lambda f: jnp.sum(weights * (f.T @ f)))(features)
    np.testing.assert_allclose(got, plain @ np.linalg.pinv(np.asarray(features.T @ features)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("build", [preconditioner, scale_by_inverse_covariance])
def test_bad_settings_are_named(build):
    for k in (jnp.ones(3), jnp.ones((3, 2)), jnp.ones((2, 3, 3))):
        with pytest.raises(InputError, match=r"^k: needs shape \(d, d\), got"):
            build(k)
    for ridge in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="relative_ridge: "):
            build(jnp.eye(3), relative_ridge=ridge)


@pytest.mark.parametrize("leaf", [jnp.ones(()), jnp.ones(2), jnp.ones((2, 3))])
def test_parameters_that_do_not_match_are_refused_at_init(leaf):
    with pytest.raises(InputError, match=r"^params: a leaf has shape .* optax\.masked"):
        scale_by_inverse_covariance(jnp.eye(3)).init({"theta": jnp.ones((3, 2)), "other": leaf})
