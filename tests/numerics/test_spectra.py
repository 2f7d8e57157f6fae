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
        (jnp.ones((2, 2), jnp.int32), "needs float32 or float64, got int32"),
        (jnp.ones((2, 2), jnp.bfloat16), "needs float32 or float64, got bfloat16"),
        (jnp.array([[1.0, jnp.nan], [0.0, 1.0]]), "NaN or infinite"),
        (jnp.array([[1.0, jnp.inf], [0.0, 1.0]]), "NaN or infinite"),
        (jnp.zeros((3, 3)), "zero everywhere"),
        (jnp.stack([jnp.eye(2), jnp.zeros((2, 2))]), "zero everywhere"),
    ],
    ids=["1-D", "ints", "bfloat16", "NaN", "infinite", "zero", "one zero in a batch"],
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
