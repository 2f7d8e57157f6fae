import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax.errors import InputError
from cimm_jax.numerics.hessian import covariance, probe_hessian
from cimm_jax.numerics.preconditioning import apply_preconditioner, preconditioner
from cimm_jax.numerics.regularizers import (
    ill_coefficients,
    ill_direction,
    ill_gradient,
    ill_rows,
    r_ill,
    r_well,
    recurrence,
    safe_step_ill,
    safe_step_well,
    well_coefficients,
    well_direction,
    well_direction_from_top,
    well_gradient,
    well_rows,
)
from cimm_jax.numerics.spectra import Route, eigenpairs, feature_condition_number, feature_eigenpairs, largest_eigenpair

FULL_RANK = {
    "distinct": [5.0, 3.0, 2.0, 0.5],
    "repeated inside": [5.0, 2.0, 2.0, 0.5],
    "ill-conditioned": [5.0, 1.0, 1e-2, 1e-4],
    "nearly one value": [1.001, 1.0, 1.0, 0.999],
}
SPECTRA = FULL_RANK | {"rank-deficient": [5.0, 3.0, 1.0, 0.0], "rank two": [5.0, 3.0, 0.0, 0.0]}
spectra = pytest.mark.parametrize("sigma", SPECTRA.values(), ids=SPECTRA.keys())
full_rank_spectra = pytest.mark.parametrize("sigma", FULL_RANK.values(), ids=FULL_RANK.keys())
shapes = pytest.mark.parametrize("shape", [(4, 4), (7, 4), (4, 7)])


def naive_well(s):
    sigma = jnp.linalg.svd(s, compute_uv=False)
    return sigma[..., 0] ** 2 / 2 - (s**2).sum((-2, -1)) / (2 * min(s.shape[-2:]))


def naive_ill(s, rank):
    sigma = jnp.linalg.svd(s, compute_uv=False)
    return 1 / ((s**2).sum((-2, -1)) / (2 * rank) - sigma[..., rank - 1] ** 2 / 2)


def regularizer_and_reference(name, sigma):
    rank = int(np.count_nonzero(sigma))
    return {
        "well": (r_well, naive_well),
        "ill": (r_ill, lambda s: naive_ill(s, rank)),
        "ill, rank given": (lambda s: r_ill(s, rank), lambda s: naive_ill(s, rank)),
    }[name]


regularizers = pytest.mark.parametrize("name", ["well", "ill", "ill, rank given"])

# --- values and derivatives of r_well and r_ill ---


@pytest.mark.parametrize("name", ["well", "ill"])
@spectra
@shapes
def test_value_and_derivatives_are_those_of_plain_automatic_differentiation(rng, name, sigma, shape):
    r, reference = regularizer_and_reference(name, sigma)
    s = jnp.asarray(prescribed.matrix(rng, [sigma, [2 * value for value in sigma]], shape))  # a batch of two
    tangent, cotangent = jnp.asarray(rng.standard_normal(s.shape)), jnp.asarray(rng.standard_normal(2))

    value, forward = jax.jvp(r, (s,), (tangent,))
    expected, expected_forward = jax.jvp(reference, (s,), (tangent,))
    pull = jax.vjp(reference, s)[1]
    np.testing.assert_allclose(r(s), expected, rtol=1e-9)
    np.testing.assert_allclose(value, expected, rtol=1e-9)
    scale = np.linalg.norm(pull(jnp.ones(2))[0], axis=(-2, -1)) * np.linalg.norm(tangent, axis=(-2, -1))
    np.testing.assert_allclose(forward / scale, expected_forward / scale, atol=1e-9)
    assert prescribed.relative_error(jax.vjp(r, s)[1](cotangent)[0], pull(cotangent)[0]) < 1e-9


@regularizers
def test_batch_equals_loop_equals_vmap_equals_jit(rng, name):
    r, _ = regularizer_and_reference(name, [3.0, 2.0, 1.0, 0.5])
    s = jnp.asarray(prescribed.matrix(rng, prescribed.random_spectra(rng, 2, 4), (7, 4)))
    value, gradient = r(s), jax.grad(lambda s: r(s).sum())(s)
    mapped = jax.jit(jax.vmap(jax.value_and_grad(r)))(s)
    loop = [jnp.stack(parts) for parts in zip(*(jax.value_and_grad(r)(one) for one in s), strict=True)]
    for other in (mapped, loop):
        np.testing.assert_allclose(other[0], value, rtol=1e-12)
        assert prescribed.relative_error(other[1], gradient) < 1e-10


@regularizers
def test_float32_stays_float32_and_close(rng, name):
    sigma = [4.0, 3.0, 2.0, 1.0]
    r, reference = regularizer_and_reference(name, sigma)
    s = jnp.asarray(prescribed.matrix(rng, sigma, (7, 4)))
    value, gradient = jax.jit(jax.value_and_grad(r))(s.astype(jnp.float32))
    assert value.dtype == gradient.dtype == jnp.float32
    assert float(value) == pytest.approx(float(reference(s)), rel=1e-5)
    assert prescribed.relative_error(gradient, jax.grad(reference)(s)) < 1e-5


# --- in theta ---


@full_rank_spectra
@pytest.mark.parametrize("width", [4, 3])
def test_gradients_in_theta_are_those_of_plain_automatic_differentiation(rng, sigma, width):
    k = jnp.asarray(prescribed.covariance(rng, [sigma, sigma]))
    theta = jnp.asarray(prescribed.matrix(rng, [[3.0, 2.0, 1.0, 0.7][:width]] * 2, (4, width)))

    def well(theta):
        return naive_well(theta.mT @ k @ theta).sum()

    def ill(theta):
        return naive_ill(theta.mT @ k @ theta, width).sum()

    assert prescribed.relative_error(well_gradient(theta, k), jax.grad(well)(theta)) < 1e-9
    assert prescribed.relative_error(ill_gradient(theta, k), jax.grad(ill)(theta)) < 1e-9
    assert prescribed.relative_error(ill_gradient(theta, k, width), jax.grad(ill)(theta)) < 1e-9


@full_rank_spectra
def test_directions_are_the_inverse_of_k_times_the_gradients(rng, sigma):
    k = jnp.asarray(prescribed.covariance(rng, sigma))
    theta = jnp.asarray(prescribed.matrix(rng, [3.0, 2.0, 1.0, 0.7]))
    eigen = eigenpairs(probe_hessian(theta, k))
    inverse = jnp.linalg.pinv(k)
    for direction, gradient in (
        (well_direction(theta, eigen), well_gradient(theta, k)),
        (ill_direction(theta, eigen), ill_gradient(theta, k)),
    ):
        assert prescribed.relative_error(direction, inverse @ gradient) < 1e-8
        assert prescribed.relative_error(direction, apply_preconditioner(preconditioner(k), gradient)) < 1e-8


def test_directions_need_no_invertible_k(rng):
    k = jnp.asarray(prescribed.covariance(rng, [5.0, 2.0, 0.0, 0.0]))
    theta = jnp.asarray(rng.standard_normal((4, 4)))
    h = probe_hessian(theta, k)
    for direction, reference in (
        (well_direction(theta, eigenpairs(h)), naive_well),
        (ill_direction(theta, eigenpairs(h)), lambda h: naive_ill(h, 2)),
    ):
        gradient = jax.grad(lambda theta, reference=reference: reference(theta.mT @ k @ theta))(theta)
        assert prescribed.relative_error(k @ direction, gradient) < 1e-8


def test_directions_of_a_minibatch_are_those_of_its_formed_hessian(rng):
    x = jnp.asarray(rng.standard_normal((3, 4, 9)))  # fewer rows than features
    theta = jnp.asarray(rng.standard_normal((3, 9, 9)))
    formed = jax.jit(lambda theta, x: eigenpairs(probe_hessian(theta, covariance(x))))(theta, x)
    small = jax.jit(lambda theta, x: feature_eigenpairs(x @ theta))(theta, x)
    assert small.sigma.shape[-1] == 4
    for direction in (jax.jit(well_direction), jax.jit(ill_direction)):
        assert prescribed.relative_error(direction(theta, small), direction(theta, formed)) < 1e-9


@pytest.mark.parametrize(
    "sigma", [[5.0, 3.0, 2.0, 0.5], [5.0, 5.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0], [3.0, 0.5, 0.5, 0.0]]
)
def test_rows_of_a_minibatch_give_its_directions_with_ties_and_lost_ranks(rng, sigma):
    f = jnp.asarray(prescribed.matrix(rng, [np.sqrt(sigma), np.sqrt(sigma)[::-1]], (4, 9)))
    theta = jnp.asarray(rng.standard_normal((2, 9, 9)))
    eigen = eigenpairs(f.mT @ f)
    for rows, direction in ((well_rows, well_direction), (ill_rows, ill_direction)):
        from_rows, expected = theta @ f.mT @ jax.jit(rows)(f), direction(theta, eigen)
        np.testing.assert_allclose(from_rows, expected, rtol=1e-8, atol=1e-8 * float(jnp.abs(theta).max()))


def test_rows_of_a_minibatch_are_those_of_plain_automatic_differentiation(rng):
    x, theta = jnp.asarray(rng.standard_normal((4, 9))), jnp.asarray(rng.standard_normal((9, 9)))
    f = x @ theta
    for rows, value in ((well_rows, naive_well), (ill_rows, lambda h: naive_ill(h, 4))):
        gradient = jax.grad(lambda theta, value=value: value(theta.mT @ x.T @ x @ theta))(theta)
        assert prescribed.relative_error(x.T @ x @ theta @ f.T @ rows(f), gradient) < 1e-8


def test_well_direction_from_the_top_pair_alone_is_the_same(rng):
    k = jnp.asarray(prescribed.covariance(rng, [9.0, 3.0, 1.0, 0.0]))
    theta = jnp.asarray(rng.standard_normal((4, 4)))
    h = probe_hessian(theta, k)
    from_top = well_direction_from_top(theta, h, jax.jit(largest_eigenpair)(h))
    assert prescribed.relative_error(from_top, well_direction(theta, eigenpairs(h))) < 1e-9


# --- degenerate spectra ---


@shapes
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_r_well_is_zero_exactly_where_all_values_are_equal(rng, shape, scale):
    equal, unequal = prescribed.matrix(rng, [[1.0, 1, 1, 1], [1.0, 1, 1, 1 - 1e-6]], shape)
    assert abs(float(r_well(scale * equal))) <= 1e-14 * scale**2
    assert float(r_well(scale * unequal)) == pytest.approx(2.5e-7 * scale**2, rel=1e-5)


TIES = {
    "top": ([4.0, 4.0, 2.0, 1.0], [1 / 2, 1 / 2, 0, 0], [0, 0, 0, 1]),
    "bottom": ([4.0, 1.0, 1.0, 1.0], [1, 0, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3]),
    "both": ([4.0, 4.0, 1.0, 1.0], [1 / 2, 1 / 2, 0, 0], [0, 0, 1 / 2, 1 / 2]),
    "bottom, above zeros": ([4.0, 1.0, 1.0, 0.0], [1, 0, 0, 0], [0, 1 / 2, 1 / 2, 0]),
}


@pytest.mark.parametrize(("sigma", "top", "bottom"), TIES.values(), ids=TIES.keys())
def test_ties_share_the_subgradient_whatever_basis_the_decomposition_returns(rng, sigma, top, bottom):
    sigma, size, rank = np.array(sigma), len(sigma), np.count_nonzero(sigma)
    u, v = prescribed.orthonormal(rng, 2, 20, size, size)  # twenty bases of tied spaces
    s = (u * sigma) @ v.mT
    kept = sigma > 0
    denominator = (sigma**2).sum() / (2 * rank) - sigma[kept][-1] ** 2 / 2
    well = (u * (sigma * (np.array(top) - 1 / size))) @ v.mT
    ill = (u * (sigma * (np.array(bottom) - kept / rank) / denominator**2)) @ v.mT
    assert prescribed.relative_error(jax.grad(lambda s: r_well(s).sum())(s), well) < 1e-9
    assert prescribed.relative_error(jax.grad(lambda s: r_ill(s).sum())(s), ill) < 1e-9


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("size", [2, 5])
def test_gradients_are_zero_where_all_values_are_equal(rng, dtype, size):
    s = 3 * prescribed.orthonormal(rng, 200, size, size)
    s[0] = 2 * np.eye(size)
    s = jnp.asarray(s, dtype)
    well, ill = (jax.jit(jax.vmap(jax.value_and_grad(r)))(s) for r in (r_well, r_ill))
    assert np.abs(well[1]).max() <= 10 * jnp.finfo(dtype).eps
    np.testing.assert_array_equal(ill[1], 0)
    assert np.min(ill[0]) > 1e4
    assert np.isfinite(ill[0]).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("gap", [0.0, 1e-17, 1e-15, 1e-13, 1e-10, 1e-7, 1e-5])
def test_values_gradients_and_steps_are_finite_near_ties(rng, dtype, gap):
    s = jnp.asarray(prescribed.covariance(rng, [1 + gap, 1.0, 1.0, 1 - gap]), dtype)
    for r in (r_well, r_ill):
        assert jnp.isfinite(r(s))
        assert jnp.isfinite(jax.grad(r)(s)).all()
    sigma = eigenpairs(s).sigma
    assert jnp.isfinite(safe_step_well(sigma))
    assert jnp.isfinite(safe_step_ill(sigma))
    assert jnp.isfinite(ill_direction(s, eigenpairs(s))).all()


@pytest.mark.parametrize("r", [r_well, r_ill])
@pytest.mark.parametrize("shape", [(4, 4), (4, 7)])
def test_zero_matrix_is_finite_with_zero_gradient(r, shape):
    assert jnp.isfinite(r(jnp.zeros(shape)))
    assert (jax.grad(r)(jnp.zeros(shape)) == 0).all()


def test_rank_counts_values_above_rounding_unless_it_is_given(rng):
    s = jnp.asarray(prescribed.covariance(rng, [4.0, 2.0, 1.0, 0.0]))
    assert float(r_ill(s)) == pytest.approx(1 / (21 / 6 - 1 / 2), rel=1e-12)
    assert float(r_ill(s)) == pytest.approx(float(r_ill(s, 3)), rel=1e-12)
    assert float(r_ill(s, 2)) == pytest.approx(1 / (20 / 4 - 4 / 2), rel=1e-12)  # as if the third were zero
    assert float(r_ill(s, 4)) == pytest.approx(1 / (21 / 8), rel=1e-12)

    def first_two(s):
        sigma = jnp.linalg.svd(s, compute_uv=False)
        return 1 / ((sigma[0] ** 2 + sigma[1] ** 2) / 4 - sigma[1] ** 2 / 2)

    assert prescribed.relative_error(jax.grad(r_ill)(s, 2), jax.grad(first_two)(s)) < 1e-9


def test_given_rank_reaches_coefficients_directions_and_gradients(rng):
    k = jnp.asarray(prescribed.covariance(rng, [4.0, 2.0, 1.0, 1e-9]))
    theta = jnp.asarray(rng.standard_normal((4, 4)))
    h = probe_hessian(theta, k)
    kept = eigenpairs(h)
    dropped = kept._replace(sigma=kept.sigma.at[-1].set(0))
    np.testing.assert_allclose(ill_coefficients(kept.sigma, 3), ill_coefficients(dropped.sigma), rtol=1e-12)
    assert prescribed.relative_error(ill_direction(theta, kept, 3), ill_direction(theta, dropped)) < 1e-12
    assert prescribed.relative_error(ill_gradient(theta, k, 3), k @ ill_direction(theta, dropped)) < 1e-12
    assert float(safe_step_ill(kept.sigma, 3)) == pytest.approx(float(safe_step_ill(dropped.sigma)), rel=1e-12)


# --- scale ---

SCALES = [
    (np.float32, 2.0**-120),
    (np.float32, 2.0**-40),
    (np.float32, 2.0**-30),
    (np.float32, 2.0**90),
    (np.float64, 2.0**-990),
    (np.float64, 2.0**900),
]
scales = pytest.mark.parametrize(("dtype", "scale"), SCALES, ids=str)


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e-6), (np.float64, 1e-140), *SCALES], ids=str)
def test_equal_values_have_gradient_zero_at_every_scale(dtype, scale):
    s = jnp.asarray(scale * np.eye(3), dtype)
    value, gradient = jax.jit(jax.value_and_grad(r_ill))(s)
    np.testing.assert_array_equal(gradient, 0)
    np.testing.assert_array_equal(ill_direction(s, eigenpairs(s)), 0)
    assert np.isfinite(value)
    assert float(r_well(s)) == 0
    np.testing.assert_allclose(jax.grad(r_well)(s), 0, atol=1e-6 * scale)


@scales
def test_values_gradients_and_steps_go_with_powers_of_the_scale(dtype, scale):
    """At a distance where every power is a number they are what they are at 1; beyond, they are held, and never NaN."""
    s = jnp.diag(jnp.asarray([3.0, 2.0, 1.0], dtype))
    smallest, largest = float(jnp.finfo(dtype).smallest_normal), float(jnp.finfo(dtype).max)

    def held(expected, power):
        with np.errstate(over="ignore", under="ignore"):
            return np.clip(np.asarray(expected) * np.float64(scale) ** power, -largest, largest)

    moved = jnp.asarray(scale, dtype) * s
    np.testing.assert_allclose(r_ill(moved), held(r_ill(s), -2), rtol=1e-5, atol=smallest)
    gradient, expected = jax.grad(r_ill)(moved), np.asarray(jax.grad(r_ill)(s))
    assert np.isfinite(gradient).all()
    if np.all(np.abs(held(expected[expected != 0], -3)) < largest / 3):
        atol = smallest + 1e-4 * float(np.abs(gradient).max())
        np.testing.assert_allclose(gradient, held(expected, -3), rtol=1e-4, atol=atol)
    else:
        np.testing.assert_array_equal(np.sign(np.diag(gradient)), np.sign(np.diag(expected)))
    np.testing.assert_allclose(jax.grad(r_well)(moved), scale * jax.grad(r_well)(s), rtol=1e-5, atol=1e-6 * scale)
    sigma = jnp.diagonal(moved)
    np.testing.assert_allclose(safe_step_well(sigma), held(safe_step_well(jnp.diagonal(s)), -1), rtol=1e-5)
    assert not np.isnan(safe_step_ill(sigma))
    assert np.isfinite(ill_coefficients(sigma)).all()
    assert np.isfinite(ill_direction(s, eigenpairs(moved))).all()
    assert np.isfinite(ill_rows(moved)).all()
    np.testing.assert_allclose(well_rows(moved), scale * well_rows(s), rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(("dtype", "power"), [(np.float32, -20), (np.float64, -180), (np.float64, 170)])
def test_within_the_range_every_power_of_two_is_exact(rng, dtype, power):
    s = prescribed.covariance(rng, [5.0, 3.0, 2.0, 0.5]).astype(dtype)
    f = prescribed.features(rng, [5.0, 3.0, 2.0, 0.5], (4, 9)).astype(dtype)
    moved, plain = eigenpairs(jnp.ldexp(s, power)).sigma, eigenpairs(jnp.asarray(s)).sigma
    for function, exponent in ((ill_coefficients, -4), (safe_step_ill, 3), (safe_step_well, -1)):
        np.testing.assert_allclose(np.ldexp(function(moved), -exponent * power), function(plain), rtol=1e-3)
    for function, exponent in ((r_ill, -2), (r_well, 2)):
        np.testing.assert_allclose(np.ldexp(function(jnp.ldexp(s, power)), -exponent * power), function(s), rtol=1e-3)
    if dtype is np.float64:
        rows, expected = ill_rows(jnp.ldexp(f, power // 2)), np.asarray(ill_rows(jnp.asarray(f)))
        np.testing.assert_allclose(np.ldexp(rows, 7 * (power // 2)), expected, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("r", [r_well, r_ill])
def test_nan_stays_nan(r):
    for s in (np.full((2, 2), np.nan), np.array([[1.0, np.nan], [0.0, 1.0]])):
        assert np.isnan(r(s))
        assert np.isnan(jax.jit(jax.grad(r))(s)).any()


def test_r_ill_of_zero_is_the_largest_number():
    assert float(r_ill(jnp.zeros((3, 3)))) == float(jnp.finfo(jnp.float64).max)


@pytest.mark.parametrize("rank", [0, -1, 4])
def test_a_rank_out_of_range_is_refused(rank):
    with pytest.raises(InputError, match=rf"^rank: needs 1 to 3 for s of shape \(3, 5\), got {rank}"):
        r_ill(jnp.ones((3, 5)), rank)


# --- steps ---


@spectra
@pytest.mark.parametrize("step", [0.01, 0.3, 2.0])
def test_recurrence_gives_the_singular_values_of_the_stepped_hessian(rng, sigma, step):
    x = jnp.asarray(prescribed.features(rng, sigma, (6, 4)))
    theta = jnp.asarray(prescribed.orthonormal(rng, 4, 4))
    eigen = eigenpairs(probe_hessian(theta, covariance(x)))
    for coefficients, direction, scale in (
        (well_coefficients(eigen.sigma), well_direction(theta, eigen), 1 / eigen.sigma[0]),
        (ill_coefficients(eigen.sigma), ill_direction(theta, eigen), safe_step_ill(eigen.sigma)),
    ):
        eta = step * float(scale)
        predicted = np.sort(recurrence(eigen.sigma, coefficients, eta))[::-1]
        actual = np.linalg.svd(x @ (theta - eta * direction), compute_uv=False) ** 2
        np.testing.assert_allclose(predicted / actual[0], actual / actual[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("safe_step", [safe_step_well, safe_step_ill])
def test_safe_steps_are_zero_where_all_values_are_equal_and_positive_elsewhere(safe_step):
    sigma = jnp.array([[2.0, 2, 2], [3.0, 2, 1], [3.0, 3, 1], [3.0, 1, 1], [2.0, 2, 0], [2.0, 1, 0], [2.0, 0, 0]])
    bound = safe_step(sigma)
    np.testing.assert_array_equal(bound > 0, [False, True, True, True, False, True, False])
    assert np.isfinite(bound).all()
    np.testing.assert_allclose(jax.jit(jax.vmap(safe_step))(sigma), bound, rtol=1e-12)


# --- precision of the products, which only accelerators can lose ---

X, THETA, K = np.eye(5)[:3], np.eye(5, 4) + 0.1, np.diag([5.0, 4, 3, 2, 1])
PRODUCTS = {
    "covariance": lambda: (covariance, X),
    "probe_hessian": lambda: (probe_hessian, THETA, K),
    "feature_condition_number": lambda: (lambda f: feature_condition_number(f, route=Route.GRAM), X),
    "feature_eigenpairs": lambda: (feature_eigenpairs, X),
    "largest_eigenpair": lambda: (largest_eigenpair, K),
    "well_gradient": lambda: (well_gradient, THETA, K),
    "ill_gradient": lambda: (ill_gradient, THETA, K),
    "well_direction_from_top": lambda: (
        lambda theta, k: well_direction_from_top(theta, theta.T[:, :4], largest_eigenpair(k)._replace(vector=theta[0])),
        THETA,
        K,
    ),
    "r_well": lambda: (lambda s: jax.jvp(r_well, (s,), (s,))[1], K),
    "r_ill": lambda: (lambda s: jax.jvp(r_ill, (s,), (s,))[1], K),
    "apply_preconditioner": lambda: (lambda k, g: apply_preconditioner(preconditioner(k), g), K, THETA),
}


@pytest.mark.parametrize("make", PRODUCTS.values(), ids=PRODUCTS.keys())
def test_every_product_asks_for_the_highest_precision(make):
    function, *arguments = make()
    lowered = jax.jit(function).lower(*(jnp.asarray(a, jnp.float32) for a in arguments)).as_text()
    products = [line for line in lowered.splitlines() if "dot_general" in line]
    assert products
    assert not [line for line in products if "HIGHEST" not in line]
