"""Extremes of prescribed spectra: found within their bounds, and never where rounding decides them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from cimm_jax.errors import InputError
from cimm_jax.numerics import spectra
from cimm_jax.numerics.matrix_free import UnresolvedError, feature_extremes, operator_extremes, pencil_extremes
from cimm_jax.numerics.spectra import PseudoInverse, Ridge, condition_number, feature_condition_number

D = 60


def orthogonal(rng, rows, columns):
    return np.linalg.qr(rng.standard_normal((rows, columns)))[0]


def prescribed(rng, sigma, rows=2 * D):
    """Features with these singular values."""
    return orthogonal(rng, rows, len(sigma)) * sigma @ orthogonal(rng, len(sigma), len(sigma)).T


SPECTRA = {
    "spread": np.geomspace(3, 1e-5, D),
    "at the end of what is resolved": np.geomspace(1, 1e-11, D),
    "one apart at each end": np.r_[100, np.linspace(2, 1, D - 2), 0.01],
    "two alike at each end": np.r_[5, 5, np.linspace(4, 2, D - 4), 1, 1],
    "all alike": np.ones(D),
    "large": 1e120 * np.geomspace(1, 1e-3, D),
}


@pytest.mark.parametrize("sigma", SPECTRA.values(), ids=SPECTRA)
def test_prescribed_extremes_are_found_within_their_bounds(rng, sigma):
    f = prescribed(rng, sigma)
    for given in (f, f.T):
        found = feature_extremes(given)
        assert found.rank == D
        for end, true in ((found.largest, sigma[0]), (found.smallest, sigma[-1])):
            assert abs(end.value - true**2) <= end.off + 1e-13 * true**2
            assert end.off <= 1e-3 * true**2
            assert end.value == pytest.approx(true**2, rel=1e-3)
    spectrum = feature_condition_number(f, solver="matrix_free")
    dense = feature_condition_number(f)
    np.testing.assert_allclose(spectrum[:3], dense[:3], rtol=1e-3)
    assert spectrum[3:] == dense[3:]


def test_where_bounds_are_not_rounding_they_still_hold(rng):
    # A Krylov space of 32 in 400 dimensions, whose second values are near the first.
    sigma = np.sqrt(np.linspace(1, 3, 400))[::-1]
    f = prescribed(rng, sigma, 400)
    found = operator_extremes(gram, (jnp.asarray(f),), 400, tolerance=1e-2)
    assert found.largest.off > 1e-6
    assert abs(found.largest.value - 3) <= found.largest.off
    assert abs(found.smallest.value - 1) <= found.smallest.off


def test_extremes_of_a_matrix_are_those_of_all_its_singular_values(rng):
    s = prescribed(rng, np.geomspace(7, 1e-3, D), D)
    for dtype, rtol in ((np.float64, 1e-9), (np.float32, 1e-2)):
        spectrum, dense = (condition_number(s.astype(dtype), solver=solver) for solver in ("matrix_free", "dense"))
        assert [field.dtype for field in spectrum] == [field.dtype for field in dense]
        np.testing.assert_allclose(spectrum[:3], dense[:3], rtol=rtol)
        assert spectrum[3:] == dense[3:]


def test_rows_and_columns_of_zeros_and_equal_columns_of_tall_features(rng):
    f = np.zeros((D + 3, D + 7))
    f[:D, 5 : 5 + D // 2] = prescribed(rng, np.geomspace(2, 1, D // 2), D)
    spectrum, dense = (feature_condition_number(f, solver=solver) for solver in ("matrix_free", "dense"))
    np.testing.assert_allclose(spectrum[:3], dense[:3], rtol=1e-9)
    assert spectrum[3:] == dense[3:]
    assert int(spectrum.rank) == D // 2
    equal = np.repeat(rng.standard_normal((2 * D, 2)), 20, axis=1)  # LAPACK's QR alone makes NaN of these
    with pytest.raises(
        UnresolvedError, match=r"^f: its smallest eigenvalue is not resolved, only that it lies between 0 and"
    ):
        feature_extremes(equal)


@pytest.mark.parametrize("lowest", [0.0, 1e-17])
def test_what_rounding_decides_is_refused(rng, lowest):
    f = prescribed(rng, np.r_[np.geomspace(1, 0.1, D - 1), lowest])
    for call in (
        lambda: feature_extremes(f),
        lambda: feature_condition_number(f, solver="matrix_free"),
        lambda: pencil_extremes(f, prescribed(rng, np.ones(D))),
        lambda: pencil_extremes(prescribed(rng, np.ones(D)), f),
        lambda: operator_extremes(gram, (jnp.asarray(f),), D),
    ):
        with pytest.raises(UnresolvedError, match="smallest eigenvalue is not resolved"):
            call()


def test_a_value_that_the_policy_counts_as_zero_is_not_taken_for_the_smallest(rng):
    f = prescribed(rng, np.r_[np.geomspace(1, 0.1, D - 1), 1e-4])
    policy = PseudoInverse(rtol=1e-6)
    assert int(feature_condition_number(f, policy).rank) == D - 1
    with pytest.raises(UnresolvedError, match=r"^f: its smallest singular value is 1e-08 of the largest.*dense"):
        feature_condition_number(f, policy, solver="matrix_free")
    assert int(feature_condition_number(f, PseudoInverse(rtol=1e-9), solver="matrix_free").rank) == D


def test_both_ends_of_a_pencil(rng):
    x_harmful, x_primary = prescribed(rng, np.geomspace(1, 1e-2, D)), 1e90 * prescribed(rng, np.geomspace(1, 0.1, D), D)
    mu = scipy.linalg.eigh(x_harmful.T @ x_harmful, x_primary.T @ x_primary / 1e180, eigvals_only=True) / 1e180
    found = pencil_extremes(x_harmful, x_primary)
    np.testing.assert_allclose([found.smallest.value, found.largest.value], mu[[0, -1]], rtol=1e-6)
    assert found.rank == D


def gram(v, x):
    return (x @ v) @ x


def inverse(v, x):
    return jnp.linalg.solve(x.T @ x, v)


def test_products_alone_are_enough(rng):
    sigma = np.linspace(3, 1, D)
    x = jnp.asarray(prescribed(rng, sigma))
    for more in ({}, {"inverse": inverse}):
        found = operator_extremes(gram, (x,), D, **more)
        assert found.kappa == pytest.approx(9, rel=1e-6)
        assert found.largest.products + found.smallest.products < 3 * D + 6


@pytest.mark.parametrize(
    ("lowest", "message"), [(1e-3, "not resolved"), (0.6, "near .* is off by up to .* after 9 products")]
)
def test_too_few_products_are_no_answer(rng, monkeypatch, lowest, message):
    monkeypatch.setattr("cimm_jax.numerics.matrix_free.LENGTHS", (8,))
    x = jnp.asarray(prescribed(rng, np.linspace(1, lowest, D)))
    with pytest.raises(UnresolvedError, match=f"^apply: .*{message}"):
        operator_extremes(gram, (x,), D)


@pytest.mark.parametrize("f", [[[3.0]], 3 * np.eye(2), np.diag([3.0, 0, 3.0]), np.full((2, 1), 3 / 2**0.5)])
def test_spaces_that_are_soon_exhausted(f):
    found = feature_extremes(f)
    np.testing.assert_allclose([found.largest.value, found.smallest.value], 9, rtol=1e-12)
    assert operator_extremes(gram, (jnp.eye(40),), 40).kappa == pytest.approx(1)


def test_large_matrices_are_not_decomposed_unless_it_is_asked_for(rng, monkeypatch):
    monkeypatch.setattr(spectra, "LARGEST_DENSE", D - 1)
    for decomposes in ("_all_of_matrix", "_all_of_features"):
        monkeypatch.setattr(spectra, decomposes, lambda *given: pytest.fail("all of them"))
    f = prescribed(rng, np.geomspace(1, 0.1, D))
    assert float(feature_condition_number(f).kappa) == pytest.approx(100)
    assert float(condition_number(f).kappa) == pytest.approx(10)
    for call in (
        lambda: feature_condition_number(f[:, 1:]),
        lambda: feature_condition_number(f, solver="dense"),
        lambda: condition_number(f, Ridge(1e-3)),
        lambda: condition_number(f[None]),
        lambda: jax.jit(lambda f: condition_number(f).kappa)(f),
    ):
        with pytest.raises(pytest.fail.Exception, match="all of them"):
            call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f: condition_number(f, solver="lanczos"),
            "^solver: needs one of auto, dense, matrix_free, got lanczos",
        ),
        (
            lambda f: condition_number(f, Ridge(1e-3), solver="matrix_free"),
            '^solver: "matrix_free" is for one .* Ridge',
        ),
        (lambda f: condition_number(f[None], solver="matrix_free"), r"^solver: .*of shape \(1, 3, 3\)"),
        (jax.jit(lambda f: condition_number(f, solver="matrix_free").kappa), "^solver: .* and traced"),
        (jax.jit(lambda f: feature_extremes(f).largest.value), "^f: is traced"),
        (lambda f: feature_extremes(f[None]), r"^f: needs shape \(rows, columns\), got \(1, 3, 3\)"),
        (lambda f: feature_extremes(0 * f), "^f: is zero everywhere"),
        (lambda f: feature_extremes(f / 0), "^f: has NaN or infinite entries"),
        (lambda f: pencil_extremes(f, f[:, :2]), "^x_harmful: has 3 features and x_primary 2"),
        (lambda f: pencil_extremes(f, f[:2]), "^x_primary: has 2 rows and 3 features"),
        (lambda f: operator_extremes(gram, (f,), 0), "^size: needs at least 1, got 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message), np.errstate(all="ignore"):
        call(np.eye(3))
