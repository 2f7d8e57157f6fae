"""Bootstrap intervals: they hold the measured ratio where they should, keep the rank, and shrink with data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import D, make_pair

from cimm_jax import InputError, relative_immunization_ratio
from cimm_jax.measures.bootstrap import bootstrap_ratio

KEY = jax.random.key(0)
THETA = jnp.asarray(np.random.default_rng(1).standard_normal((D, D)))


def test_the_measured_ratio_lies_within():
    pair = make_pair(rows=400)
    ratio = relative_immunization_ratio(THETA, pair)
    intervals = bootstrap_ratio(KEY, THETA, pair)
    measured = (ratio.rir, ratio.harmful_ratio, ratio.primary_ratio, ratio.primary.kappa, ratio.harmful.kappa)
    for interval, value in zip(intervals, measured, strict=True):
        assert interval.low < value < interval.high


def test_more_rows_make_it_narrower():
    widths = []
    for rows in (60, 2000):
        low, high = bootstrap_ratio(KEY, THETA, make_pair(rows=rows)).rir
        widths.append(np.log(high / low))
    assert widths[1] < widths[0] / 2


def test_the_identity_has_no_uncertainty():
    low, high = bootstrap_ratio(KEY, jnp.eye(D), make_pair()).rir
    np.testing.assert_allclose([low, high], 1, rtol=1e-9)


def test_the_key_decides():
    pair = make_pair()
    first, again, other = (bootstrap_ratio(jax.random.key(seed), THETA, pair, resamples=40) for seed in (0, 0, 1))
    assert first == again != other


def test_bad_input_is_named():
    with pytest.raises(InputError, match="resamples"):
        bootstrap_ratio(KEY, THETA, make_pair(), resamples=5)
    with pytest.raises(InputError, match="theta"):
        bootstrap_ratio(KEY, jnp.eye(3), make_pair())
