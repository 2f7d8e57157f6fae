import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax.errors import InputError
from cimm_jax.numerics.spectra import (
    PseudoInverse,
    ReleasedCode,
    Ridge,
    Route,
    condition_number,
    eigenpairs,
    feature_condition_number,
    feature_eigenpairs,
    largest_eigenpair,
    log_condition_number,
    log_feature_condition_number,
    numerical_rank,
    product_amplification,
    smaller_gram,
)

SPECTRA = {
    "full rank": [5.0, 3.0, 2.0, 0.5],
    "rank-deficient": [5.0, 3.0, 0.01, 0.0],
    "repeated": [4.0, 4.0, 2.0, 2.0],
    "repeated, with a zero": [4.0, 2.0, 2.0, 0.0],
    "all equal": [3.0, 3.0, 3.0, 3.0],
    "rank one": [2.0, 0.0, 0.0, 0.0],
    "geometric to 1e5": list(prescribed.geometric(1e5, 4)),
    "one value": [7.0],
}
SHAPES = {"square": (0, 0), "tall": (30, 0), "wide": (0, 30)}
spectra = pytest.mark.parametrize("sigma", SPECTRA.values(), ids=SPECTRA.keys())
shapes = pytest.mark.parametrize("extra", SHAPES.values(), ids=SHAPES.keys())
POLICIES = [PseudoInverse(), PseudoInverse(1e-3), Ridge(1e-2), ReleasedCode()]


def kappa_and_rank(sigma):
    positive = [value for value in sigma if value > 0]
    return max(positive) / min(positive), len(positive)


def shaped(sigma, extra):
    return len(sigma) + extra[0], len(sigma) + extra[1]


# --- exactness on prescribed spectra ---


@spectra
@shapes
def test_condition_number_is_exact(rng, sigma, extra):
    spectrum = condition_number(prescribed.matrix(rng, sigma, shaped(sigma, extra)))
    kappa, rank = kappa_and_rank(sigma)
    assert float(spectrum.kappa) == pytest.approx(kappa, rel=1e-10)
    assert float(spectrum.sigma_max) == pytest.approx(max(sigma), rel=1e-10)
    assert float(spectrum.sigma_min) == pytest.approx(max(sigma) / kappa, rel=1e-10)
    assert int(spectrum.rank) == rank
    if rank == len(sigma):  # the rounding of a zero may come within ten times of the tolerance
        assert not spectrum.floored


@spectra
@shapes
@pytest.mark.parametrize("route", Route)
def test_feature_condition_number_is_exact_by_every_route(rng, sigma, extra, route):
    spectrum = feature_condition_number(prescribed.features(rng, sigma, shaped(sigma, extra)), route=route)
    kappa, rank = kappa_and_rank(sigma)
    assert float(spectrum.kappa) == pytest.approx(kappa, rel=1e-10)
    assert float(spectrum.sigma_max) == pytest.approx(max(sigma), rel=1e-10)
    assert int(spectrum.rank) == rank
    if rank == len(sigma) or route is not Route.GRAM:
        assert not spectrum.floored


def test_features_resolve_what_their_gram_matrix_loses(rng):
    f = prescribed.features(rng, prescribed.geometric(1e14, 10), (40, 10))
    assert float(feature_condition_number(f).kappa) == pytest.approx(1e14, rel=1e-6)
    assert not feature_condition_number(f).floored
    assert feature_condition_number(f, route=Route.GRAM).floored


@pytest.mark.parametrize(
    ("measure", "policy"),
    [*((condition_number, policy) for policy in POLICIES), (feature_condition_number, PseudoInverse())],
)
def test_batch_equals_loop_equals_vmap_equals_jit(rng, measure, policy):
    sigma = prescribed.random_spectra(rng, 6, 5) * np.array([1, 1, 1, 1, 0])
    s = jnp.asarray(prescribed.covariance(rng, sigma))
    loop = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[measure(one, policy) for one in s])
    for result in (
        measure(s, policy),
        jax.vmap(lambda one: measure(one, policy))(s),
        jax.jit(lambda batch: measure(batch, policy))(s),
    ):
        for name in ("rank", "floored"):
            np.testing.assert_array_equal(getattr(result, name), getattr(loop, name))
        for name in ("kappa", "sigma_max", "sigma_min"):
            np.testing.assert_allclose(getattr(result, name), getattr(loop, name), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("measure", [condition_number, feature_condition_number])
def test_dtype_is_kept(measure, policy, dtype):
    spectrum = measure(jnp.diag(jnp.array([3.0, 1.0], dtype)), policy)
    assert {spectrum.kappa.dtype, spectrum.sigma_max.dtype, spectrum.sigma_min.dtype} == {jnp.dtype(dtype)}
    assert (spectrum.rank.dtype, spectrum.floored.dtype) == (jnp.int32, jnp.bool_)


# --- policies ---


@pytest.mark.parametrize(("rtol", "rank"), [(None, 4), (1e-9, 4), (1e-5, 3), (1e-2, 2), (0.5, 1)])
def test_pseudo_inverse_counts_values_above_its_tolerance(rng, rtol, rank):
    sigma = np.array([2.0, 0.2, 2e-4, 2e-7])
    for spectrum in (
        condition_number(prescribed.matrix(rng, sigma), PseudoInverse(rtol)),
        feature_condition_number(prescribed.features(rng, sigma, (9, 4)), PseudoInverse(rtol)),
    ):
        assert int(spectrum.rank) == rank
        assert float(spectrum.kappa) == pytest.approx(sigma[0] / sigma[rank - 1], rel=1e-8)


@pytest.mark.parametrize("kind", [jnp.float64, np.float32, np.asarray])
def test_a_policy_takes_any_kind_of_number(kind):
    s = jnp.diag(jnp.array([4.0, 2.0, 1e-3]))
    for policy in (PseudoInverse, Ridge):
        assert float(condition_number(s, policy(kind(0.25))).kappa) == float(condition_number(s, policy(0.25)).kappa)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 3.0, 1e20])
def test_pseudo_inverse_and_ridge_are_scale_invariant(rng, scale):
    s = prescribed.covariance(rng, [5.0, 2.0, 0.1, 0.0])
    for policy in (PseudoInverse(), PseudoInverse(1e-3), Ridge(1e-3)):
        plain, scaled = condition_number(s, policy), condition_number(scale * s, policy)
        assert float(scaled.kappa) == pytest.approx(float(plain.kappa), rel=1e-10)
        assert int(scaled.rank) == int(plain.rank)


@spectra
@shapes
@pytest.mark.parametrize("relative", [1e-3, 0.5])
def test_ridge_follows_its_formula_and_counts_the_zeros_of_wide_features(rng, sigma, extra, relative):
    f = prescribed.features(rng, sigma, shaped(sigma, extra))
    size = f.shape[1]
    ridge = relative * sum(sigma) / size
    smallest = 0.0 if size > len(sigma) else min(sigma)
    for spectrum in (
        feature_condition_number(f, Ridge(relative)),
        feature_condition_number(f, Ridge(relative), route=Route.GRAM),
        condition_number(f.T @ f, Ridge(relative)),
    ):
        assert float(spectrum.kappa) == pytest.approx((max(sigma) + ridge) / (smallest + ridge), rel=1e-10)
        assert int(spectrum.rank) == sum(value > ridge for value in sigma)
        assert bool(spectrum.floored) == (smallest < ridge)


def released_rule(k: np.ndarray) -> float:
    eigenvalues = np.linalg.eigvalsh(k + 1e-6 * np.eye(len(k)))
    return eigenvalues.max() / eigenvalues[eigenvalues > 1e-6].min()


@pytest.mark.parametrize("sigma", [[5.0, 1.0, 0.3], [1e4, 30.0, 1e-5], [1e3, 10.0, 1.0, 0, 0, 0, 0, 0]])
def test_released_code_follows_its_rule(rng, sigma):
    k = prescribed.covariance(rng, sigma)
    root = prescribed.features(rng, sigma, (len(sigma), len(sigma)))
    assert float(condition_number(k, ReleasedCode()).kappa) == pytest.approx(released_rule(k), rel=1e-5)
    assert float(feature_condition_number(root, ReleasedCode()).kappa) == pytest.approx(
        released_rule(root.T @ root), rel=1e-5
    )


def test_released_code_is_a_floor_artefact_on_rank_deficient_matrices(rng):
    f = prescribed.features(rng, [1e3, 10.0, 1.0], (20, 60))
    spectrum = feature_condition_number(f, ReleasedCode())
    assert float(spectrum.kappa) == pytest.approx(1e3 * 1e6, rel=1e-5)  # by Eq. 1 it is 1e3
    assert spectrum.floored
    tripled = feature_condition_number(3 * f, ReleasedCode())
    assert float(tripled.kappa / spectrum.kappa) == pytest.approx(9, rel=1e-5)
    assert not feature_condition_number(f[:3, :3], ReleasedCode()).floored


# --- floored ---


@pytest.mark.parametrize(
    ("smallest", "dtype", "floored"),
    [
        (1e-1, jnp.float64, False),  # far above the tolerance of 1e-3
        (3e-3, jnp.float64, True),  # within ten times above
        (3e-4, jnp.float64, True),  # within ten times below
        (1e-5, jnp.float64, False),  # far below: counted as zero
        (1e-1, jnp.float32, False),
        (1e-5, jnp.float32, True),  # counted as zero, and float64 might have resolved it
        (0.0, jnp.float32, False),  # an exact zero
    ],
)
def test_floored_says_that_the_tolerance_decided(smallest, dtype, floored):
    spectrum = condition_number(jnp.diag(jnp.array([1.0, 0.5, smallest], dtype)), PseudoInverse(1e-3))
    assert bool(spectrum.floored) == floored


@pytest.mark.parametrize(("smallest", "floored"), [(1e-12, False), (1e-14, True), (1e-17, True)])
def test_floored_says_that_the_arithmetic_decided(smallest, floored):
    assert bool(condition_number(jnp.diag(jnp.array([1.0, smallest])), PseudoInverse(0.0)).floored) == floored


# --- float32 ---

FLOAT32_SHAPES = [(50, 8), (500, 64), (2000, 300), (64, 784)]


@pytest.mark.parametrize("shape", FLOAT32_SHAPES)
@pytest.mark.parametrize("make_spectrum", [prescribed.geometric, prescribed.one_small])
def test_float32_features_are_right_to_1e9_and_say_so_beyond(rng, shape, make_spectrum):
    size = min(shape)
    u, v = prescribed.orthonormal(rng, shape[0], size), prescribed.orthonormal(rng, shape[1], size)
    for kappa in (1e4, 1e8, 1e9, 1e11, 1e12, 1e14, 1e16):
        f = jnp.asarray((u * np.sqrt(make_spectrum(kappa, size))) @ v.T, jnp.float32)
        for route in (Route.SVD, Route.QR):
            spectrum = feature_condition_number(f, route=route)
            if kappa <= 1e9:
                assert float(spectrum.kappa) == pytest.approx(kappa, rel=0.02)
            if kappa <= 1e8:
                assert not spectrum.floored
                assert int(spectrum.rank) == size
            if kappa >= 1e11:
                assert spectrum.floored


@pytest.mark.parametrize("make_spectrum", [prescribed.geometric, prescribed.one_small])
def test_float32_matrix_is_right_to_1e4_and_says_so_beyond(rng, make_spectrum):
    for kappa in (1e2, 1e4, 1e6, 1e8, 1e12):
        s = jnp.asarray(prescribed.covariance(rng, make_spectrum(kappa, 40)), jnp.float32)
        spectrum = condition_number(s)
        if kappa <= 1e4:
            assert float(spectrum.kappa) == pytest.approx(kappa, rel=0.02)
        assert bool(spectrum.floored) == (kappa > 1e4)


# LAPACK's exact 0 for the smallest value of a matrix of full rank.
LOST = np.array([[-0.1, 6e-10, 0.1], [-0.5, 4e-10, 1.3], [0.9, -7e-10, -1.3]], np.float32)


def test_a_zero_is_not_trusted_where_float64_might_resolve_it():
    exact = np.linalg.svd(LOST.astype(float), compute_uv=False)
    assert exact[0] / exact[2] == pytest.approx(4.07e9, rel=1e-2)
    for s in (LOST, LOST.T, jnp.stack([LOST, LOST])):
        spectrum = jax.jit(condition_number)(s)
        assert (spectrum.rank == 2).all()
        assert spectrum.floored.all()
    assert feature_condition_number(LOST).floored


STRUCTURED = {
    "a zero row and column": np.diag([4.0, 2.0, 0.0]),
    "zero columns": np.array([[1.0, 0.0, 2.0], [3.0, 0.0, -4.0], [5.0, 0.0, 6.0], [7.0, 0.0, -9.0]]),
    "one number": np.array([[3.0, 0.0], [0.0, 0.0]]),
    "wide": np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]),
}


@pytest.mark.parametrize("s", STRUCTURED.values(), ids=STRUCTURED)
@pytest.mark.parametrize("policy", [PseudoInverse(), PseudoInverse(1e-3), PseudoInverse(0.0)], ids=repr)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_zero_that_rows_or_columns_of_zeros_make_is_trusted(s, policy, dtype):
    s = jnp.asarray(s, dtype)
    for measure in (condition_number, feature_condition_number):
        spectrum = measure(s, policy)
        assert int(spectrum.rank) == np.linalg.matrix_rank(s)
        assert not spectrum.floored


def test_a_tolerance_below_rounding_leaves_the_zeros_to_the_arithmetic(rng):
    deficient = prescribed.matrix(rng, [3.0, 2.0, 0.0])
    assert not condition_number(deficient, PseudoInverse(1e-9)).floored
    assert condition_number(deficient, PseudoInverse(0.0)).floored
    lost = np.diag([1.0, 1e-200])  # whose square is zero
    assert feature_condition_number(lost, PseudoInverse(0.0)).floored


def test_the_released_rule_flags_squares_that_are_no_numbers():
    for f in (np.float32([[1.8446e19]]), np.float32([[1e19], [1e19], [1e19], [0.6e19]]), np.array([[1.3e154]])):
        assert feature_condition_number(f, ReleasedCode()).floored


# --- kappa has no scale ---

EXTREMES = {
    "float32, small": (np.diag([1e-15, 1e-19]).astype(np.float32), 1e4),
    "float64, small": (np.diag([1e-150, 1e-155]), 1e5),
    "float32, large": (np.diag([1e22, 1e20]).astype(np.float32), 1e2),
    "float64, large": (np.diag([1e300, 1e292]), 1e8),
}
extremes = pytest.mark.parametrize(("s", "kappa"), EXTREMES.values(), ids=EXTREMES)


def everything(s):
    features = {route.name: feature_condition_number(s, route=route) for route in Route}
    gradient = jax.grad(log_feature_condition_number)(s)
    return features, condition_number(s), log_condition_number(s), log_feature_condition_number(s), gradient


@extremes
@pytest.mark.parametrize("make", [lambda function: function, jax.jit], ids=["eager", "jit"])
def test_kappa_is_right_at_every_scale(s, kappa, make):
    tolerance = {"rel": 1e-5 if s.dtype == np.float32 else 1e-12}
    features, matrix, log_kappa, log_feature_kappa, gradient = make(everything)(s)
    for route, measured in features.items():
        # What the singular values of f^T f themselves are is out of range, and that is flagged.
        assert measured.floored
        if route != "GRAM":
            assert int(measured.rank) == 2
            assert float(measured.kappa) == pytest.approx(kappa**2, **tolerance)
    assert float(matrix.kappa) == pytest.approx(kappa, **tolerance)
    assert not matrix.floored
    assert float(log_kappa) == pytest.approx(np.log(kappa), **tolerance)
    assert float(log_feature_kappa) == pytest.approx(2 * np.log(kappa), **tolerance)
    np.testing.assert_allclose(gradient * s, np.diag([2.0, -2.0]), rtol=1e-4)


@pytest.mark.parametrize("policy", [PseudoInverse(), PseudoInverse(1e-3), Ridge(1e-3)], ids=repr)
@pytest.mark.parametrize(("dtype", "power"), [(np.float32, 95), (np.float64, 960)])
def test_a_power_of_two_changes_nothing_but_the_units(rng, policy, dtype, power):
    f = prescribed.features(rng, [5.0, 2.0, 1.0], (9, 3)).astype(dtype)
    for measure in (condition_number, feature_condition_number):
        plain = measure(f, policy)
        for exponent in (-power, power):
            scaled = measure(np.ldexp(f, exponent), policy)
            assert float(scaled.kappa) == pytest.approx(float(plain.kappa), rel=1e-6)
            assert int(scaled.rank) == int(plain.rank)
            if measure is condition_number:
                np.testing.assert_allclose(scaled.sigma_min, np.ldexp(plain.sigma_min, exponent), rtol=1e-6)
                np.testing.assert_allclose(scaled.sigma_max, np.ldexp(plain.sigma_max, exponent), rtol=1e-6)
                assert not scaled.floored
            else:
                assert scaled.floored, "sigma_max of f^T f is no number"


def test_a_matrix_near_the_end_of_the_range_is_flagged():
    """What stands beside its largest entry may have been too small to be computed with."""
    lost = np.diag([1e-300, 1e-314])
    assert feature_condition_number(lost).floored
    assert condition_number(lost).floored
    assert not condition_number(np.diag([1e-290, 1e-300])).floored


@pytest.mark.parametrize("route", Route)
def test_features_of_moderate_scale_are_not_flagged(rng, route):
    f = prescribed.features(rng, [5.0, 2.0, 1.0], (9, 3))
    for scale in (1e-100, 1e100):
        assert not feature_condition_number(scale * f, route=route).floored


def test_amplification_has_no_scale(rng):
    x, theta = rng.standard_normal((9, 4)), prescribed.matrix(rng, [1e3, 10.0, 1.0, 0.1])
    plain = float(product_amplification(*map(jnp.asarray, (x, theta, x @ theta))))
    assert plain > 1
    for of_x, of_theta in ((600, 300), (-600, -300), (900, -900)):
        scaled = [np.ldexp(x, of_x), np.ldexp(theta, of_theta), np.ldexp(x @ theta, of_x + of_theta)]
        assert float(product_amplification(*map(jnp.asarray, scaled))) == pytest.approx(plain, rel=1e-12)


# --- what is no number ---


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("measure", [condition_number, feature_condition_number])
@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_what_is_no_number_is_flagged_where_it_cannot_be_refused(policy, measure, strange):
    s = np.array([[1.0, 0.0], [0.0, strange]])
    spectrum = jax.jit(lambda s: measure(s, policy))(s)
    assert spectrum.floored
    assert np.isnan(spectrum.kappa)
    assert np.isnan(jax.jit(lambda s: log_condition_number(s, policy))(s))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("measure", [condition_number, feature_condition_number])
def test_a_traced_zero_is_flagged(policy, measure):
    spectrum = jax.jit(lambda s: measure(s, policy))(jnp.zeros((3, 3)))
    assert spectrum.floored
    assert np.isposinf(spectrum.kappa)
    assert int(spectrum.rank) == 0
    assert float(spectrum.sigma_min) == 0


@pytest.mark.parametrize("sigma", [[1e-23, 1e-24], [1e-7, 1e-30], [1e-300, 1e-301]])
def test_released_code_says_that_nothing_stands_above_its_floor(sigma):
    below = condition_number(np.diag(sigma), ReleasedCode())
    assert below.floored
    assert np.isposinf(below.kappa) or float(below.kappa) < 2
    assert np.isfinite(below.sigma_min)


def test_released_code_says_what_the_arithmetic_does_not_resolve():
    """The second eigenvalue is far above the floor, and drowns in the rounding errors of the first."""
    assert condition_number(np.diag([1e12, 1e-4]), ReleasedCode()).floored
    assert not condition_number(np.diag([1e8, 1e-4]), ReleasedCode()).floored


def test_released_code_needs_a_square():
    with pytest.raises(InputError, match=r"^s: ReleasedCode needs shape \(\.\.\., d, d\), got \(3, 2\)"):
        condition_number(np.ones((3, 2)), ReleasedCode())


def test_a_ridge_below_the_rounding_level_is_flagged(rng):
    deficient = prescribed.covariance(rng, [3.0, 2.0, 0.0])
    assert condition_number(deficient, Ridge(1e-20)).floored
    assert not condition_number(prescribed.covariance(rng, [3.0, 2.0, 1.0]), Ridge(1e-20)).floored


# --- gradients of log kappa ---


def analytic_gradient(s, rank):
    u, sigma, vt = np.linalg.svd(s, full_matrices=False)
    return np.outer(u[:, 0], vt[0]) / sigma[0] - np.outer(u[:, rank - 1], vt[rank - 1]) / sigma[rank - 1]


@pytest.mark.parametrize("sigma", [[5.0, 3.0, 1.0, 0.5], [5.0, 2.0, 2.0, 0.5], [5.0, 2.0, 0.5, 0.0], [5.0, 0.5, 0, 0]])
@shapes
def test_log_condition_number_gradient_is_analytic_where_the_extremes_are_simple(rng, sigma, extra):
    s = prescribed.matrix(rng, sigma, shaped(sigma, extra))
    gradient = analytic_gradient(s, np.count_nonzero(sigma))
    assert prescribed.relative_error(jax.grad(log_condition_number)(s), gradient) < 1e-9
    assert prescribed.relative_error(jax.grad(log_feature_condition_number)(s), 2 * gradient) < 1e-9


@pytest.mark.parametrize("log_kappa", [log_condition_number, log_feature_condition_number])
@shapes
def test_log_condition_number_gradient_matches_finite_differences(rng, log_kappa, extra):
    sigma = [5.0, 3.0, 3.0, 0.5]
    s = prescribed.matrix(rng, sigma, shaped(sigma, extra))
    direction = rng.standard_normal(s.shape)
    difference = (log_kappa(s + 1e-6 * direction) - log_kappa(s - 1e-6 * direction)) / 2e-6
    assert float(jnp.vdot(jax.grad(log_kappa)(s), direction)) == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.parametrize("sigma", [[1.0, 1, 1, 1], [4.0, 4, 4, 1], [4.0, 1, 1, 1], [4.0, 4, 1, 1], [3.0, 3, 1, 0]])
@pytest.mark.parametrize("measure", [log_condition_number, log_feature_condition_number])
def test_log_condition_number_gradient_is_a_subgradient_where_the_extremes_repeat(rng, sigma, measure):
    sigma = np.array(sigma)
    u, v = (prescribed.orthonormal(rng, len(sigma), len(sigma)) for _ in range(2))
    s = (u * sigma) @ v.T
    gradient = np.asarray(jax.grad(measure)(s)) / (1 if measure is log_condition_number else 2)
    assert np.isfinite(gradient).all()
    assert np.vdot(gradient, s) == pytest.approx(0, abs=1e-12)  # kappa does not depend on scale
    if len(set(sigma)) == 1:
        return
    inner = u.T @ gradient @ v
    for value, sign in ((sigma[0], 1), (sigma[sigma > 0][-1], -1)):
        tied = sigma == value
        weights = sign * value * inner[np.ix_(tied, tied)]  # a density matrix on the tied space
        assert np.trace(weights) == pytest.approx(1)
        assert np.linalg.eigvalsh(weights + weights.T).min() > -1e-9
        inner[np.ix_(tied, tied)] = 0
    assert np.abs(inner).max() < 1e-9  # and nothing else, in particular nothing from zero singular values


@pytest.mark.parametrize("sigma", [[9.0, 3.0, 2.0, 0.5], [4.0, 1.0, 1e-3, 0.0], [5.0, -7.0, 1.0, 0.25]])
def test_a_symmetric_matrix_has_the_same_condition_number_and_gradient_by_its_eigenvalues(rng, sigma):
    h = prescribed.covariance(rng, [sigma, sigma])
    # Of the last one the largest value belongs to a negative eigenvalue.
    for policy in (PseudoInverse(), Ridge(1e-3)):
        general, symmetric = (condition_number(h, policy, symmetric=known) for known in (False, True))
        np.testing.assert_allclose(symmetric.kappa, general.kappa, rtol=1e-12)
        np.testing.assert_array_equal(symmetric.rank, general.rank)
        np.testing.assert_array_equal(symmetric.floored, general.floored)
    general, symmetric = (
        jax.grad(lambda h, known=known: log_condition_number(h, symmetric=known).sum())(h) for known in (False, True)
    )
    np.testing.assert_allclose(symmetric, general, atol=1e-9 * np.abs(general).max())


def test_what_is_called_symmetric_is_square():
    with pytest.raises(InputError, match=r"s: symmetric needs shape \(\.\.\., d, d\), got \(2, 3\)"):
        condition_number(np.ones((2, 3)), symmetric=True)


def test_log_condition_number_gradient_at_the_identity_and_under_jit_is_finite():
    for s in (jnp.eye(4), jnp.ones((3, 3)), jnp.zeros((3, 3)), jnp.diag(jnp.array([1.0, 0, 0]))):
        assert jnp.isfinite(jax.jit(jax.grad(log_condition_number))(s)).all()
        assert jnp.isfinite(jax.jit(jax.grad(log_feature_condition_number))(s)).all()


# --- eigenpairs ---


@pytest.mark.parametrize("sigma", [[5.0, 3.0, 1.0], [2.0, 2.0, 1.0, 0.0, 0.0], [1.0, 1.0]])
def test_eigenpairs_reconstruct_the_matrix_largest_first_without_negatives(rng, sigma):
    h = prescribed.covariance(rng, [sigma, 2 * np.array(sigma)])
    eigen = eigenpairs(h)
    np.testing.assert_allclose(eigen.sigma, [sigma, 2 * np.array(sigma)], atol=1e-13)
    assert (eigen.sigma >= 0).all()
    np.testing.assert_allclose((eigen.vectors * eigen.sigma[:, None, :]) @ eigen.vectors.mT, h, atol=1e-13)


@pytest.mark.parametrize("shape", [(4, 20), (20, 20), (50, 20)])
@pytest.mark.parametrize("sigma", [[9.0, 5.0, 2.0, 1.0], [5.0, 5.0, 2.0, 1.0], [4.0, 2.0, 0.0, 0.0]])
def test_feature_eigenpairs_are_those_of_the_formed_matrix(rng, shape, sigma):
    f = prescribed.features(rng, [sigma, sigma], shape)
    eigen, formed = feature_eigenpairs(f), eigenpairs(f.mT @ f)
    assert eigen.vectors.shape == (2, 20, min(shape))
    np.testing.assert_allclose(eigen.sigma[:, :4], [sigma, sigma], atol=1e-12)
    for value in set(sigma) - {0.0}:
        tied = np.flatnonzero(np.array(sigma) == value)
        projector, reference = (e.vectors[..., tied] @ e.vectors[..., tied].mT for e in (eigen, formed))
        np.testing.assert_allclose(projector, reference, atol=1e-10)
    if shape[0] < shape[1]:
        assert (eigen.vectors[..., np.array(sigma) == 0] == 0).all()


@pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
@pytest.mark.parametrize("power", [-600, 600])
def test_feature_eigenpairs_have_directions_at_every_scale(rng, shape, power):
    f = prescribed.features(rng, [5.0, 2.0, 1.0], shape)
    plain, scaled = feature_eigenpairs(jnp.asarray(f)), feature_eigenpairs(jnp.asarray(np.ldexp(f, power)))
    np.testing.assert_allclose(np.abs(scaled.vectors), np.abs(plain.vectors), atol=1e-12)
    np.testing.assert_array_equal(scaled.sigma, np.inf if power > 0 else 0)
    near = feature_eigenpairs(jnp.asarray(np.ldexp(f, power // 2)))
    np.testing.assert_allclose(near.sigma, np.ldexp(plain.sigma, power), rtol=1e-12)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3)])
def test_smaller_gram_is_the_smaller_one(rng, shape):
    f = prescribed.features(rng, [3.0, 2.0, 1.0], shape)
    assert smaller_gram(f).shape == (3, 3)
    np.testing.assert_allclose(eigenpairs(smaller_gram(f)).sigma, [3, 2, 1], rtol=1e-12)


@spectra
def test_numerical_rank_counts_what_is_not_rounding(rng, sigma):
    assert int(numerical_rank(eigenpairs(prescribed.covariance(rng, sigma)).sigma)) == np.count_nonzero(sigma)


TOP_CASES = {
    "exhausted with a repeated top": np.diag([2.0, 2.0, 1.0, 0.0]),
    "identity": np.eye(4),
    "ones": np.ones((20, 20)),
    "rank one": np.outer(np.arange(1.0, 21), np.arange(1.0, 21)),
    "repeated top": prescribed.covariance(np.random.default_rng(1), [3.0] * 5 + [1.0] * 15),
    "geometric": prescribed.covariance(np.random.default_rng(2), prescribed.geometric(1e6, 20)),
    "one stands apart": prescribed.covariance(np.random.default_rng(3), [100.0, *np.linspace(1, 0, 19)]),
    "one by one": np.array([[3.0]]),
}


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-12), (jnp.float32, 3e-6)])
@pytest.mark.parametrize("h", TOP_CASES.values(), ids=TOP_CASES.keys())
def test_largest_eigenpair_is_that_of_eigh(h, dtype, tolerance, scale):
    h = jnp.asarray(scale * h, dtype)
    top = jax.jit(largest_eigenpair)(h)
    expected = float(eigenpairs(h).sigma[0])
    assert top.sigma.dtype == dtype
    assert float(top.sigma) == pytest.approx(expected, rel=tolerance)
    assert float(top.residual) < 10 * tolerance
    assert float(jnp.linalg.norm(top.vector)) == pytest.approx(1, rel=tolerance)
    np.testing.assert_allclose((h / scale) @ top.vector, (top.sigma / scale) * top.vector, atol=1e4 * tolerance)


def test_largest_eigenpair_of_zero_is_zero():
    top = jax.jit(largest_eigenpair)(jnp.zeros((4, 4)))
    assert (float(top.sigma), float(top.residual)) == (0.0, 0.0)
    assert jnp.isfinite(top.vector).all()


def test_largest_eigenpair_maps_over_a_batch(rng):
    h = jnp.asarray(prescribed.covariance(rng, prescribed.random_spectra(rng, 5, 4)))
    np.testing.assert_allclose(jax.vmap(largest_eigenpair)(h).sigma, eigenpairs(h).sigma[:, 0], rtol=1e-12)


def test_residual_tells_that_the_krylov_space_was_too_short(rng):
    sigma = np.linspace(1, 0.9, 40)
    top = largest_eigenpair(prescribed.covariance(rng, sigma), num_matvecs=3)
    assert float(top.residual) > 1e-3
    assert np.abs(sigma - float(top.sigma)).min() <= float(top.residual * top.sigma)  # some eigenvalue is this near


# --- input errors ---


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (jnp.ones(3), r"needs shape \(\.\.\., rows, columns\), got \(3,\)"),
        (1j * np.ones((2, 2)), "needs real numbers, got complex128"),
        ([["one", "two"]], "needs real numbers, got <U3"),
        (np.ones((2, 0)), r"has no entries, its shape is \(2, 0\)"),
        (np.diag([1e-310, 1e-312]), "is below 2.2e-308 everywhere"),
        (jnp.array([[1.0, jnp.nan], [0.0, 1.0]]), "NaN or infinite"),
        (jnp.array([[1.0, jnp.inf], [0.0, 1.0]]), "NaN or infinite"),
        (jnp.zeros((3, 3)), "zero everywhere"),
        (jnp.stack([jnp.eye(2), jnp.zeros((2, 2))]), "zero everywhere"),
    ],
    ids=["1-D", "complex", "words", "empty", "too small", "NaN", "infinite", "zero", "one zero in a batch"],
)
@pytest.mark.parametrize(
    ("measure", "argument"),
    [
        (condition_number, "s"),
        (feature_condition_number, "f"),
        (log_condition_number, "s"),
        (log_feature_condition_number, "f"),
    ],
)
def test_bad_input_is_named(measure, argument, bad, message):
    with pytest.raises(InputError, match=f"^{argument}: .*{message}"):
        measure(bad)


@pytest.mark.parametrize("rtol", [-1e-3, 1.0, 2.0, float("nan")])
def test_bad_rtol_is_named(rtol):
    with pytest.raises(InputError, match=r"^rtol: "):
        PseudoInverse(rtol)


@pytest.mark.parametrize("relative", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_ridge_is_named(relative):
    with pytest.raises(InputError, match=r"^relative: "):
        Ridge(relative)
