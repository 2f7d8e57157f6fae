"""Right within the stated tolerance, or flagged, or refused in one line: the numerics against an oracle of eighty digits.

The short profile draws the same cases every time. `python -m pytest -m slow tests/fuzz` draws others, many times more.
"""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from fuzz import exact
from fuzz.cases import MORE_SHAPES, Case, covariance_pairs, matrices, whole_numbers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cimm_jax import InputError, Task, TaskPair, covariance, extract, judge, pencil_limit, streamed_covariance
from cimm_jax.numerics.convergence import excess_left
from cimm_jax.numerics.inputs import PrecisionWarning
from cimm_jax.numerics.least_squares import probe_loss
from cimm_jax.numerics.regularizers import r_ill, r_well
from cimm_jax.numerics.spectra import (
    PseudoInverse,
    ReleasedCode,
    Ridge,
    Route,
    condition_number,
    feature_condition_number,
    log_condition_number,
    log_feature_condition_number,
    product_amplification,
)

RIDGE = 1e-3
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def fuzzed(check, *strategies, short: int, long: int):
    """The same check as two tests: the same few cases every time, and, marked slow, many others."""

    def test(cases: int, **kind):
        profile = settings(max_examples=cases, deadline=None, database=None, suppress_health_check=CHECKS, **kind)
        return profile(given(*strategies)(check))

    return test(short, derandomize=True), pytest.mark.slow(test(long))


# --- condition numbers and regularizers of a matrix ---


def everything(s):
    """All that is measured of a matrix."""
    return {
        "matrix": condition_number(s),
        "matrix, ridge": condition_number(s, Ridge(RIDGE)),
        "features": feature_condition_number(s),
        "features, QR": feature_condition_number(s, route=Route.QR),
        "features, Gram": feature_condition_number(s, route=Route.GRAM),
        "features, ridge": feature_condition_number(s, Ridge(RIDGE)),
        "features, released": feature_condition_number(s, ReleasedCode()),
        "features, tolerance": feature_condition_number(s, PseudoInverse(0.0)),
        "logs": (log_condition_number(s), log_feature_condition_number(s)),
        "regularizers": (r_well(s), r_ill(s)),
        "gradients": [jax.grad(function)(s) for function in (log_feature_condition_number, r_well, r_ill)],
    }


def a_little(s):
    """What is measured one operation after another, which takes longer."""
    return {
        "matrix": condition_number(s),
        "features": feature_condition_number(s),
        "logs": (log_condition_number(s), log_feature_condition_number(s)),
        "regularizers": (r_well(s), r_ill(s)),
        "gradients": [],
    }


compiled = jax.jit(everything)
mapped = jax.jit(jax.vmap(everything))


def measured(case: Case):
    """Everything, in the case's way; None if it was refused, which traced arrays never are."""
    if case.mode == "vmap":
        batch = jnp.asarray(np.stack([case.array, np.ones_like(case.array), 2 * case.array[::-1]]))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[0], mapped(batch))
    if case.mode == "jit":
        return jax.tree.map(np.asarray, compiled(case.array))
    try:
        return jax.tree.map(np.asarray, a_little(case.array))
    except InputError as error:
        refused = str(error)
    assert "\n" not in refused
    assert refused.startswith(("s: ", "f: "))
    return None


def check_matrix(case: Case):
    found = measured(case)
    array = case.array.astype(np.float32 if case.array.dtype.itemsize < 4 else case.array.dtype)
    info = np.finfo(array.dtype)
    finite, largest = bool(np.isfinite(array).all()), float(np.abs(array).max())
    if found is None:
        assert not finite or largest < info.smallest_normal, "a good matrix was refused"
        return
    spectra = {name: spectrum for name, spectrum in found.items() if hasattr(spectrum, "kappa")}
    if not finite:
        for name, spectrum in spectra.items():
            assert spectrum.floored, name
            assert np.isnan(spectrum.kappa), name
        assert np.isnan(found["logs"]).all()
        assert np.isnan(found["regularizers"][1])
        return
    assert not any(np.isnan(gradient).any() for gradient in found["gradients"])
    if largest < info.smallest_normal:
        assert all(spectrum.floored for spectrum in spectra.values())
        return
    sigma = exact.singular_values(array)
    known = [value for value in sigma if value > exact.ZERO * sigma[0]]
    for gradient in found["gradients"]:  # as large as 1 / sigma_min, which the matrix's dtype may have no number for
        too_large = gradient.dtype.itemsize == 2 or known[-1] * float(info.max) < 100
        assert np.isfinite(gradient).all() or too_large
    for name, spectrum in spectra.items():
        check_spectrum(name, spectrum, array, sigma, len(known))
    for log_kappa, name in zip(found["logs"], ("matrix", "features"), strict=True):
        assert not np.isnan(log_kappa)
        if not found[name].floored:
            assert abs(log_kappa - np.log(found[name].kappa)) <= 0.02
    check_regularizers(found["regularizers"], array, sigma)


def check_spectrum(name, spectrum, array, sigma, rank):
    """Not flagged means right; and what is easy is not flagged."""
    info = np.finfo(array.dtype)
    eps, single = float(info.eps), array.dtype == np.float32
    power = 2 if name.startswith("features") else 1
    top = sigma[0] ** power
    if not spectrum.floored:
        counted = int(spectrum.rank)
        assert 1 <= counted <= len(sigma), name
        added = sum(value**power for value in sigma) * RIDGE / (array.shape[1] if power == 2 else len(sigma))
        if name.endswith("ridge"):
            lowest = 0 if power == 2 and array.shape[0] < array.shape[1] else sigma[-1] ** power
            expected = (top + added) / (lowest + added), top + added
        elif name.endswith("released"):
            added = ReleasedCode.floor
            expected = (top + added) / (sigma[counted - 1] ** power + added), top + added
        else:
            expected = top / sigma[counted - 1] ** power, top
            tolerance = max(array.shape) * eps if power == 1 else 2 * min(array.shape) ** 0.5 * eps
            if name.endswith("Gram"):
                tolerance = (min(array.shape) * eps) ** 0.5
            for value in sigma[counted:]:
                assert value <= (exact.ZERO if single or name.endswith("tolerance") else tolerance) * sigma[0], name
        assert abs(spectrum.kappa / expected[0] - 1) <= 0.02, name
        assert abs(spectrum.sigma_max / expected[1] - 1) <= 0.02, name
        assert abs(spectrum.sigma_max / spectrum.sigma_min / expected[0] - 1) <= 0.021, name
        return
    small, large = (-25, 25) if not single else (-4, 4)
    ordinary = 10.0 ** (4 * small) < sigma[0] < 10.0 ** (4 * large) and sigma[-1] ** power > float(info.smallest_normal)
    resolved = {1: 1e4 if single else 1e11, 2: 1e4 if single else 1e12}[power]
    easy = rank == min(array.shape) and sigma[0] / sigma[-1] <= resolved
    if ordinary and easy and name in ("matrix", "features", "features, QR", "features, tolerance"):
        raise AssertionError(f"{name}: flagged for nothing")


def check_regularizers(values, array, sigma):
    info = np.finfo(array.dtype)
    eps = float(info.eps)
    well, ill = (float(value) for value in values)
    expected = exact.well(sigma)
    rounding = 50 * eps * sigma[0] ** 2 + float(info.smallest_normal)
    held = float(info.max) if well > 0.8 * float(info.max) else np.inf  # what is too large for a number
    assert abs(well - expected) <= rounding or expected + rounding >= 0.9 * held
    noise = len(sigma) * eps * sigma[0]
    if any(noise / 30 < value < 30 * noise for value in sigma):
        return  # which of them count is rounding's choice
    expected, gap = exact.ill(sigma, sum(value > noise for value in sigma), eps)
    largest = float(info.max)
    assert np.isfinite(ill)
    if gap > 5000 * eps and expected < 0.9 * largest:
        assert abs(ill - expected) <= 0.02 * expected + float(info.smallest_normal)
    else:
        assert ill + float(info.smallest_normal) >= float(min(expected, largest)) / 5000


test_matrices, test_matrices_at_length = fuzzed(check_matrix, matrices(), short=25, long=8000)
_, test_more_shapes_at_length = fuzzed(check_matrix, matrices(tuple(MORE_SHAPES)), short=1, long=4000)


# --- JAX in float32 ---


def check_in_float32(case: Case):
    """float64 is rounded with a warning, or refused; what is measured is right for the rounded numbers."""
    with np.errstate(over="ignore"):
        narrow = case.array.astype(np.float32)
    if not narrow.any():
        return
    with jax.enable_x64(False), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not np.isfinite(narrow).all() or np.abs(narrow).max() < np.finfo(np.float32).smallest_normal:
            with pytest.raises(InputError, match=r"^f: .*$"):
                feature_condition_number(case.array)
            return
        spectrum = jax.tree.map(np.asarray, feature_condition_number(case.array))
    assert [warning.category for warning in caught] == [PrecisionWarning] * (case.array.dtype == np.float64)
    assert spectrum.kappa.dtype == np.float32
    sigma = exact.singular_values(narrow)
    check_spectrum("features", spectrum, narrow, sigma, sum(value > exact.ZERO * sigma[0] for value in sigma))


test_in_float32, test_in_float32_at_length = fuzzed(check_in_float32, matrices(((3, 3),)), short=30, long=2000)


# --- covariances ---


def check_covariance(x: np.ndarray):
    expected = exact.product(x)
    for given_ in (x, x.tolist(), pd.DataFrame(x)):
        found = np.asarray(covariance(given_))
        assert found.dtype == np.float64
        assert (found.astype(object) == expected).all()
    parts = [part for part in np.array_split(x, 3) if len(part)]
    assert (np.asarray(streamed_covariance(parts)).astype(object) == expected).all()


test_covariances, test_covariances_at_length = fuzzed(check_covariance, whole_numbers(), short=30, long=2000)


# --- the limit ---

limit = jax.jit(pencil_limit)


def check_limit(drawn):
    (k_primary, k_harmful), (of_primary, of_harmful) = drawn
    mu = exact.generalised_eigenvalues(k_primary, k_harmful)
    moved = np.ldexp(k_primary, of_primary), np.ldexp(k_harmful, of_harmful)
    found = float(limit(*moved))
    tolerance = 0.02 if k_primary.dtype == np.float32 else 1e-6
    assert found >= 1
    assert abs(found / (mu[0] / mu[-1]) - 1) <= tolerance
    bad = k_harmful.copy()
    bad[0, 0] = np.nan
    assert np.isnan(limit(moved[0], bad))
    assert np.isnan(limit(bad, moved[1]))


test_limits, test_limits_at_length = fuzzed(check_limit, covariance_pairs(), short=30, long=2000)


# --- probes, judgements and amplification have no scale ---

left = jax.jit(partial(excess_left, horizons=(1, 3, 20)))
loss = jax.jit(probe_loss)
judgement = jax.jit(lambda theta, pair: judge(extract(theta, pair)))
amplification = jax.jit(product_amplification)
SCALE_FREE = [
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
    *[st.integers(-9, 9) for _ in range(4)],
    st.booleans(),
]


def check_scale(seed, dtype, of_primary, of_harmful, of_theta, of_targets, strange):
    rng = np.random.default_rng(seed)
    inputs = [rng.standard_normal((12, 3)) * 10 ** rng.uniform(-1, 1, 3) for _ in range(2)]
    theta, y = rng.standard_normal((3, 3)) + np.eye(3), rng.standard_normal(12)
    step = np.finfo(dtype).maxexp // 24
    powers = [step * power for power in (of_primary, of_harmful, of_theta, of_targets)]

    def moved(*values):
        return [jnp.asarray(np.ldexp(value.astype(dtype), power)) for value, power in zip(values, powers, strict=True)]

    (x, h, map_, targets), (x0, h0, map0, y0) = (
        moved(*inputs, theta, y),
        [jnp.asarray(v, jnp.float64) for v in (*inputs, theta, y)],
    )
    single = dtype is np.float32
    tolerance = {"rtol": 3e-3 if single else 1e-8, "atol": 1e-5 if single else 1e-12}
    np.testing.assert_allclose(left(x, targets), left(x0, y0), **tolerance)
    ordinary = y.astype(dtype)
    known = loss(Task(x0, y0), Task(x0, y0))
    np.testing.assert_allclose(loss(Task(x, ordinary), Task(x, ordinary)), known, rtol=1e-3)
    judged = judgement(map_, TaskPair(Task(x, targets), Task(h, targets)))
    plain = judgement(map0, TaskPair(Task(x0, y0), Task(h0, y0)))
    np.testing.assert_allclose(judged.ratio[:3], plain.ratio[:3], rtol=0.05 if single else 1e-7)
    assert bool(judged.conditions.primary_kept)
    np.testing.assert_allclose(
        amplification(x, map_, x @ map_), amplification(x0, map0, x0 @ map0), rtol=1e-3 if single else 1e-9
    )
    if strange:
        bad = x.at[0, 0].set(jnp.nan)
        assert np.isnan(left(bad, targets)).all()
        assert np.isnan(left(x, targets.at[0].set(jnp.nan))).all()
        worse = judgement(map_, TaskPair(Task(bad, targets), Task(h, targets)))
        assert worse.ratio.floored
        assert not worse.conditions.immunized
        assert np.isnan(amplification(bad, map_, bad @ map_))


test_scales, test_scales_at_length = fuzzed(check_scale, *SCALE_FREE, short=30, long=2000)
