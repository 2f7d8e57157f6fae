import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
import scipy.linalg

from cimm_jax import InputError
from cimm_jax.closed_form.limits import covariance_limit
from cimm_jax.closed_form.pencil import covariance_spectrum, diagonalise, feature_spectrum, pencil_limit
from cimm_jax.numerics.hessian import covariance

D, ROWS, COUNT = 6, 20, 20
# Rank of the primary and of the harmful task.
RANKS = [(6, 6), (4, 6), (6, 3), (4, 3), (1, 1)]
ranks = pytest.mark.parametrize("ranks", RANKS, ids=str)
ridges = pytest.mark.parametrize("ridge", [0.0, 0.1])

limits = jax.jit(jax.vmap(pencil_limit))


def of_covariances(k_primary, k_harmful, ridge):
    return diagonalise(covariance_spectrum(k_primary), covariance_spectrum(k_harmful), ridge=ridge)


def of_features(x_primary, x_harmful, ridge):
    return diagonalise(feature_spectrum(x_primary), feature_spectrum(x_harmful), ridge=ridge)


pencils_of_covariances = jax.jit(jax.vmap(of_covariances, (0, 0, None)))
pencils_of_features = jax.jit(jax.vmap(of_features, (0, 0, None)))
directions_of = jax.jit(jax.vmap(lambda pencil: (pencil.directions, pencil.inside)))


def random_covariances(rng, count, d, log_range=5.0):
    return [prescribed.covariance(rng, prescribed.random_spectra(rng, count, d, log_range)) for _ in range(2)]


def random_features(rng, ranks, rows=ROWS):
    """Both tasks' inputs, shape (COUNT, rows, D), in general position."""

    def inputs(rank):
        sigma = np.zeros((COUNT, min(rows, D)))
        sigma[:, :rank] = prescribed.random_spectra(rng, COUNT, rank)
        return prescribed.features(rng, sigma, (rows, D))

    return [inputs(rank) for rank in ranks]


def sharing_a_range(rng, primary, harmful):
    """Covariances with these non-zero spectra, shape (count, r), and the same r-dimensional range of D."""
    count, rank = primary.shape
    small = [prescribed.covariance(rng, spectrum) for spectrum in (primary, harmful)]
    basis = prescribed.orthonormal(rng, count, D, rank)
    large = [basis @ k @ basis.mT for k in small]
    return small, [(k + k.mT) / 2 for k in large]


def assert_diagonal(pencil, k_primary, k_harmful, ridge):
    """V^T (K_P + ridge) V = I and V^T K_H V = diag(mu) on the counted columns, per pair."""
    v, inside = (np.asarray(values) for values in directions_of(pencil))
    mu = np.asarray(pencil.mu)
    shift = ridge * np.trace(k_primary, axis1=1, axis2=2) / D
    identity = v.mT @ (k_primary + shift[:, None, None] * np.eye(D)) @ v
    diagonal = v.mT @ k_harmful @ v
    expected = np.eye(v.shape[-1]) * inside[:, None, :]
    np.testing.assert_allclose(identity, expected, atol=1e-9)
    scale = mu[:, :1, None]
    np.testing.assert_allclose(diagonal / scale, np.eye(v.shape[-1]) * mu[:, None, :] / scale, atol=1e-9)


# --- the limit ---


@pytest.mark.parametrize("d", [1, 2, 5, 12])
def test_the_limit_is_the_ratio_of_the_generalised_eigenvalues(rng, d):
    k_primary, k_harmful = random_covariances(rng, 20, d)
    mu = np.array([scipy.linalg.eigh(h, p, eigvals_only=True) for p, h in zip(k_primary, k_harmful, strict=True)])
    found = limits(k_primary, k_harmful)
    np.testing.assert_allclose(found, mu[:, -1] / mu[:, 0], rtol=1e-8)
    np.testing.assert_allclose(limits(7 * k_primary, k_harmful), found, rtol=1e-8)
    np.testing.assert_allclose(limits(k_primary, 7 * k_harmful), found, rtol=1e-8)


def test_pairs_that_share_their_null_space_have_the_limit_of_the_small_pair(rng):
    spectra = [prescribed.random_spectra(rng, COUNT, 4) for _ in range(2)]
    small, large = sharing_a_range(rng, *spectra)
    np.testing.assert_allclose(limits(*large), limits(*small), rtol=1e-8)


def test_float32_agrees_and_stays_float32(rng):
    k_primary, k_harmful = random_covariances(rng, COUNT, D, log_range=3.0)
    found = limits(k_primary.astype(np.float32), k_harmful.astype(np.float32))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, limits(k_primary, k_harmful), rtol=1e-2)


@pytest.mark.parametrize("rank", [6, 3])
def test_identical_covariances_leave_nothing_to_gain(rng, rank):
    sigma = np.zeros((COUNT, D))
    sigma[:, :rank] = prescribed.random_spectra(rng, COUNT, rank)
    k = prescribed.covariance(rng, sigma)
    np.testing.assert_allclose(limits(k, k), 1, rtol=1e-10)
    found = jax.jit(jax.vmap(covariance_limit))(k, k)
    np.testing.assert_allclose(found.log_rir, 0, atol=1e-10)
    np.testing.assert_allclose(found.ratio_in_range, 1, rtol=1e-10)


def test_rtol_counts_small_eigenvalues_as_zero():
    k_primary, k_harmful = jnp.diag(jnp.array([1.0, 0.5, 1e-3])), jnp.diag(jnp.array([1.0, 1.0, 1e-3]))
    assert float(pencil_limit(k_primary, k_harmful)) == pytest.approx(2)
    k_harmful = jnp.diag(jnp.array([1.0, 1.0, 1e-5]))
    assert float(pencil_limit(k_primary, k_harmful)) == pytest.approx(200)
    assert float(pencil_limit(k_primary, k_harmful, rtol=1e-2)) == pytest.approx(2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_limit_has_no_scale(rng, dtype):
    k_primary, k_harmful = (
        prescribed.covariance(rng, sigma).astype(dtype) for sigma in ([5.0, 2.0, 1.0], [1.0, 2.0, 3.0])
    )
    plain = float(pencil_limit(k_primary, k_harmful))
    range_ = np.finfo(dtype).maxexp - 8
    for primary, harmful in ((-range_, 0), (0, range_), (-range_, range_), (range_, -range_), (-range_, -range_)):
        scaled = pencil_limit(np.ldexp(k_primary, primary), np.ldexp(k_harmful, harmful))
        assert float(scaled) == pytest.approx(plain, rel=1e-5 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize(
    "pair",
    [
        (np.full((2, 2), np.nan), np.eye(2)),
        (np.eye(2), np.full((2, 2), np.nan)),
        (np.zeros((2, 2)), np.eye(2)),
        (np.eye(2), np.zeros((2, 2))),
        (np.diag([4e-310, 1e-310]), np.eye(2)),
    ],
    ids=["primary NaN", "harmful NaN", "primary zero", "harmful zero", "primary too small"],
)
def test_what_has_no_limit_is_nan_where_it_cannot_be_refused(pair):
    assert np.isnan(jax.jit(pencil_limit)(*pair))


def test_covariances_of_any_kind_of_numbers_are_taken():
    expected = float(pencil_limit(np.diag([4.0, 1.0]), np.eye(2)))
    for k in ([[4, 0], [0, 1]], np.diag([4, 1]).astype(np.float16), jnp.diag(jnp.array([4, 1], jnp.bfloat16))):
        assert float(pencil_limit(k, jnp.eye(2, dtype=jnp.float32))) == pytest.approx(expected, rel=1e-6)


# --- both tasks diagonal at once ---


@ranks
@ridges
def test_both_covariances_are_diagonal_from_features(rng, ranks, ridge):
    x_primary, x_harmful = random_features(rng, ranks)
    pencil = pencils_of_features(x_primary, x_harmful, ridge)
    assert_diagonal(pencil, x_primary.mT @ x_primary, x_harmful.mT @ x_harmful, ridge)
    assert_ranks(pencil, ranks)


@ranks
@ridges
def test_both_covariances_are_diagonal_from_covariances(rng, ranks, ridge):
    k_primary, k_harmful = (np.asarray(covariance(x)) for x in random_features(rng, ranks))
    pencil = pencils_of_covariances(k_primary, k_harmful, ridge)
    assert_diagonal(pencil, k_primary, k_harmful, ridge)
    assert_ranks(pencil, ranks)


@ridges
def test_both_covariances_are_diagonal_from_fewer_rows_than_features(rng, ridge):
    x_primary, _ = random_features(rng, (4, 1), rows=4)
    _, x_harmful = random_features(rng, (1, 6))
    pencil = pencils_of_features(x_primary, x_harmful, ridge)
    assert pencil.mu.shape == (COUNT, 4)
    assert_diagonal(pencil, x_primary.mT @ x_primary, x_harmful.mT @ x_harmful, ridge)


def assert_ranks(pencil, ranks):
    primary, harmful = ranks
    assert (np.asarray(pencil.rank_primary) == primary).all()
    assert (np.asarray(pencil.rank_harmful) == min(primary, harmful)).all()


@ranks
def test_padding_is_zero(rng, ranks):
    pencil = pencils_of_features(*random_features(rng, ranks), 0.0)
    primary, harmful = ranks
    for padding in (pencil.basis[:, :, primary:], pencil.whitening[:, primary:], pencil.primary[:, primary:]):
        np.testing.assert_array_equal(padding, 0)
    np.testing.assert_array_equal(pencil.mu[:, min(primary, harmful) :], 0)
    v = np.asarray(directions_of(pencil)[0])
    np.testing.assert_allclose(v[:, :, primary:] / np.abs(v).max((1, 2), keepdims=True), 0, atol=1e-13)


@ranks
def test_the_rotation_is_orthogonal(rng, ranks):
    rotation = np.asarray(pencils_of_features(*random_features(rng, ranks), 0.0).rotation)
    np.testing.assert_allclose(rotation.mT @ rotation, np.broadcast_to(np.eye(D), rotation.shape), atol=1e-12)


def test_pairs_of_different_rank_in_a_batch_are_as_they_are_alone(rng):
    parts = [random_features(rng, case) for case in RANKS]
    together = [np.stack([part[task][0] for part in parts]) for task in range(2)]
    batch = pencils_of_features(*together, 0.1)
    np.testing.assert_array_equal(batch.rank_primary, [primary for primary, _ in RANKS])
    alone = jax.jit(of_features)
    directions = directions_of(batch)[0]
    for i in range(len(RANKS)):
        pencil = alone(together[0][i], together[1][i], 0.1)
        for field in ("mu", "outside", "rank_primary", "rank_harmful", "harmful_only", "resolved"):
            expected = getattr(pencil, field)
            np.testing.assert_allclose(getattr(batch, field)[i], expected, rtol=1e-9, atol=1e-20, err_msg=field)
        np.testing.assert_allclose(np.abs(directions[i]), np.abs(pencil.directions), atol=1e-9)


# --- harmful directions that the primary task lacks ---


def shared_null_space(rng, count, digits=(8, 8)):
    """Inputs with the same range and unrelated spectra of kappa up to 10^digits."""
    spectra = [10 ** rng.uniform(-exponent, 0, (count, 4)) for exponent in digits]
    basis = prescribed.orthonormal(rng, count, D, 4).mT
    return [prescribed.matrix(rng, np.sqrt(spectrum), (ROWS, 4)) @ basis for spectrum in spectra]


def with_a_harmful_direction_outside(rng, x_harmful, basis, energy):
    outside = rng.standard_normal((len(x_harmful), D, 1))
    outside -= basis.mT @ (basis @ outside)
    outside /= np.linalg.norm(outside, axis=1, keepdims=True)
    total = np.linalg.norm(x_harmful, axis=(1, 2))[:, None, None]
    return x_harmful + np.sqrt(energy) * total * prescribed.orthonormal(rng, len(x_harmful), ROWS, 1) @ outside.mT


def test_a_shared_null_space_is_not_harmful_only_however_ill_conditioned(rng):
    x_primary, x_harmful = shared_null_space(rng, 200)
    pencil = pencils_of_features(x_primary, x_harmful, 0.0)
    assert not np.asarray(pencil.harmful_only).any()
    assert (np.asarray(pencil.rank_primary) == 4).all()


def test_a_shared_null_space_is_not_harmful_only_in_formed_covariances(rng):
    assert_not_harmful_only(*shared_null_space(rng, 200, digits=(8, 3)))


def test_a_shared_null_space_is_not_harmful_only_where_only_the_harmful_covariance_is_ill_conditioned(rng):
    assert_not_harmful_only(*shared_null_space(rng, 200, digits=(1, 8)))


def assert_not_harmful_only(x_primary, x_harmful):
    k_primary, k_harmful = covariance(x_primary), covariance(x_harmful)
    assert not np.asarray(pencils_of_covariances(k_primary, k_harmful, 0.0).harmful_only).any()
    assert np.isfinite(limits(k_primary, k_harmful)).all()


def test_a_harmful_direction_outside_is_seen_and_lifts_the_limit(rng):
    x_primary, x_harmful = shared_null_space(rng, 200)
    basis = np.linalg.svd(x_primary)[2][:, :4]
    x_harmful = with_a_harmful_direction_outside(rng, x_harmful, basis, 1e-6)
    pencil = pencils_of_features(x_primary, x_harmful, 0.0)
    assert np.asarray(pencil.harmful_only).all()
    np.testing.assert_allclose(pencil.outside, 1e-6, rtol=1e-2)
    k_primary, k_harmful = covariance(x_primary), covariance(x_harmful)
    assert np.asarray(pencils_of_covariances(k_primary, k_harmful, 0.0).harmful_only).all()
    assert np.isposinf(limits(k_primary, k_harmful)).all()


# --- bad input ---

GOOD = np.diag([2.0, 1.0])
BAD = {
    "needs shape": np.ones((2, 3)),
    "needs shape ": np.ones(2),
    "not symmetric": np.array([[2.0, 1.0], [0.0, 2.0]]),
    "not positive semi-definite": np.diag([1.0, -1.0]),
    "zero everywhere": np.zeros((2, 2)),
    "NaN": np.diag([1.0, np.nan]),
    "needs real numbers": np.diag([2.0, 1.0j]),
    "below 2.2e-308 everywhere": np.diag([2e-310, 1e-310]),
    "no entries": np.ones((0, 0)),
}


@pytest.mark.parametrize("function", [pencil_limit, covariance_limit])
@pytest.mark.parametrize("reason", BAD)
def test_a_bad_covariance_is_named(function, reason):
    with pytest.raises(InputError, match=f"^k_primary: .*{reason.strip()}"):
        function(BAD[reason], GOOD)
    with pytest.raises(InputError, match=f"^k_harmful: .*{reason.strip()}"):
        function(GOOD, BAD[reason])


@pytest.mark.parametrize("function", [pencil_limit, covariance_limit])
def test_covariances_of_different_size_are_refused(function):
    with pytest.raises(InputError, match=r"^k_harmful: .*\(3, 3\)"):
        function(GOOD, np.eye(3))


@pytest.mark.parametrize("function", [pencil_limit, covariance_limit])
@pytest.mark.parametrize("rtol", [-0.1, 1.0, float("nan")])
def test_rtol_out_of_range_is_refused(function, rtol):
    with pytest.raises(InputError, match=r"^rtol: "):
        function(GOOD, GOOD, rtol=rtol)
