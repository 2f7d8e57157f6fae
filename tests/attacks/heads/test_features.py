import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks.attacked import make_target
from sklearn.preprocessing import StandardScaler

from cimm_jax.attacks.heads._features import features_in_use, standardised_target
from cimm_jax.numerics.distances import squared_distances

standardised = jax.jit(standardised_target)


def test_features_have_mean_0_and_variance_1_over_the_rows_fitted(rng):
    x, heldout = (rng.standard_normal((rows, 4)) * [1e-200, 1.0, 1e3, 1e200] + [0, 3, -1e5, 0] for rows in (20, 7))
    seen = standardised(make_target(x, rng.standard_normal(20), (heldout, np.ones(7))))
    unit = [1e200, 1.0, 1.0, 1e-200]  # scikit-learn squares them
    scaler = StandardScaler().fit(x * unit)
    np.testing.assert_allclose(seen.fit.x, scaler.transform(x * unit), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(seen.heldout.x, scaler.transform(heldout * unit), rtol=1e-7, atol=1e-9)
    assert seen.fit.y.shape == (20, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_feature_that_is_constant_but_for_rounding_is_zero(rng, dtype):
    x = np.repeat(np.asarray([[0.1, 1e5, 0.0, 1.0, 1.0]]), 20, 0)
    x[::3, 3] += np.finfo(dtype).eps
    x[::3, 4] += 1e2 * np.finfo(dtype).eps
    target = make_target(x, rng.standard_normal(20), (rng.standard_normal((7, 5)), np.ones(7)))
    seen = standardised(jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), target))
    np.testing.assert_array_equal(np.asarray(seen.fit.x)[:, :4], 0)
    np.testing.assert_array_equal(np.asarray(seen.heldout.x)[:, :4], 0)
    np.testing.assert_allclose(np.std(seen.fit.x[:, 4]), 1, rtol=1e-5)
    assert float(features_in_use(seen.fit.x)) == 1


def test_no_feature_in_use_counts_as_one():
    assert float(features_in_use(jnp.zeros((3, 2)))) == 1


def test_distances(rng):
    a, b = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    expected = np.sum((a[:, None] - b[None]) ** 2, -1)
    np.testing.assert_allclose(squared_distances(a, b), expected, rtol=1e-12)
    far = jnp.asarray(rng.standard_normal((40, 3)) + 1e2, jnp.float32)
    assert (squared_distances(far, far) >= 0).all()
