"""Bootstrap intervals: they hold the measured ratio where they should, keep the rank, and shrink with data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measures.extracted import forgotten
from pairs import D, make_pair

from cimm_jax import InputError, ReleasedCode, extract, immunization_ratio
from cimm_jax.measures.bootstrap import bootstrap_ratio

KEY = jax.random.key(0)
THETA = jnp.asarray(np.random.default_rng(1).standard_normal((D, D)))


def figures(ratio):
    return ratio.rir, ratio.harmful_ratio, ratio.primary_ratio, ratio.primary.kappa, ratio.harmful.kappa


def test_the_measured_ratio_is_the_estimate_and_lies_within():
    extraction = extract(THETA, make_pair(rows=400))
    intervals = bootstrap_ratio(KEY, extraction)
    for interval, value in zip(intervals, figures(immunization_ratio(extraction)), strict=True):
        np.testing.assert_allclose(interval.estimate, value, rtol=1e-9)
        assert interval.low < interval.estimate < interval.high


def test_the_policy_is_that_of_the_estimate_and_of_the_resamples():
    extraction = extract(1e-4 * THETA, make_pair(rows=60))
    released = bootstrap_ratio(KEY, extraction, policy=ReleasedCode(), resamples=20)
    expected = figures(immunization_ratio(extraction, ReleasedCode()))
    np.testing.assert_allclose([interval.estimate for interval in released], expected, rtol=1e-9)
    defined = bootstrap_ratio(KEY, extraction, resamples=20)
    assert released.kappa_harmful.high < defined.kappa_harmful.low


def test_features_without_a_map_have_the_intervals_of_the_map_that_made_them():
    extraction = extract(THETA, make_pair(rows=60))
    by_map, by_features = (bootstrap_ratio(KEY, e, resamples=20) for e in (extraction, forgotten(extraction)))
    np.testing.assert_allclose(by_features, by_map, rtol=1e-6)


def test_more_rows_make_it_narrower():
    widths = []
    for rows in (60, 2000):
        rir = bootstrap_ratio(KEY, extract(THETA, make_pair(rows=rows))).rir
        widths.append(np.log(rir.high / rir.low))
    assert widths[1] < widths[0] / 2


def test_the_identity_has_no_uncertainty():
    np.testing.assert_allclose(bootstrap_ratio(KEY, extract(jnp.eye(D), make_pair())).rir, 1, rtol=1e-9)


def test_the_key_decides():
    extraction = extract(THETA, make_pair())
    first, again, other = (bootstrap_ratio(jax.random.key(seed), extraction, resamples=40) for seed in (0, 0, 1))
    assert first == again != other


def test_too_few_resamples_are_refused():
    with pytest.raises(InputError, match="resamples"):
        bootstrap_ratio(KEY, extract(THETA, make_pair()), resamples=19)
