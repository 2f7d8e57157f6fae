"""RIR in groups of rows, as the paper reports it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import D, make_pair

from cimm_jax import PseudoInverse
from cimm_jax.errors import InputError
from cimm_jax.methods._pencil import solve
from cimm_jax.measures.metrics import relative_immunization_ratio
from cimm_jax.numerics.spectra import ReleasedCode
from cimm_jax.measures.groups import grouped_feature_ratio, grouped_ratio


def test_one_group_of_all_rows_is_the_ratio_itself():
    pair = make_pair()
    theta = solve(pair).theta
    rows = min(len(task.x) for task in pair)
    pair = jax.tree.map(lambda leaf: leaf[:rows], pair)
    for policy in (PseudoInverse(), ReleasedCode()):
        found = grouped_ratio(theta, pair, jax.random.key(0), groups=1, rows=rows, policy=policy)
        expected = relative_immunization_ratio(theta, pair, policy)
        assert found.rir.mean == pytest.approx(float(expected.rir), rel=1e-6)
        assert found.harmful_ratio.mean == pytest.approx(float(expected.harmful_ratio), rel=1e-6)
        assert np.isnan(found.rir.standard_error)
        assert found.warning == ""


def test_rounding_errors_that_a_map_blows_up_are_no_directions(rng):
    """Both tasks lack a direction, and the map makes it ten thousand times as prominent as the others."""
    basis = np.linalg.qr(rng.standard_normal((D, D)))[0]
    pair = make_pair()
    pair = jax.tree.map(
        lambda x: x - (x @ basis[:, :1]) @ basis[:, :1].T if x.ndim == 2 and x.shape[1] == D else x, pair
    )
    theta = jnp.asarray(basis * np.r_[1e4, np.linspace(1, 2, D - 1)])
    rows = min(len(task.x) for task in pair)
    pair = jax.tree.map(lambda leaf: leaf[:rows], pair)
    found = grouped_ratio(theta, pair, jax.random.key(0), groups=1, rows=rows)
    assert found.harmful_ratio.mean == pytest.approx(float(relative_immunization_ratio(theta, pair).harmful_ratio))
    assert found.harmful_ratio.mean < 5


def test_groups_differ_and_small_ones_are_warned_of():
    pair = make_pair()
    theta = solve(pair).theta
    found = grouped_ratio(theta, pair, jax.random.key(0), groups=6, rows=D // 2)
    assert found.rir.standard_error > 0
    assert f"{D // 2} rows" in found.warning
    again = grouped_ratio(theta, pair, jax.random.key(0), groups=6, rows=D // 2)
    assert again.rir == found.rir
    assert grouped_ratio(theta, pair, jax.random.key(1), groups=6, rows=D // 2).rir != found.rir


def test_features_before_and_after_are_drawn_together():
    """So that the same features have the ratio 1 in every group, however much groups differ."""
    pair = make_pair()
    found = grouped_feature_ratio(pair, pair, jax.random.key(0), groups=3, rows=D + 3)
    assert found.rir == (1, 0)
    other = pair._replace(harmful=pair.harmful._replace(x=pair.harmful.x[::-1]))
    assert grouped_feature_ratio(other, pair, jax.random.key(0), groups=3, rows=D + 3).harmful_ratio.mean != 1


def test_the_released_rule_on_few_rows_is_its_floor():
    """kappa is then sigma_max over 1e-6, before and after."""
    pair = make_pair()
    rows = 2
    tripled = grouped_ratio(3 * jnp.eye(D), pair, jax.random.key(0), groups=3, rows=rows, policy=ReleasedCode())
    assert tripled.harmful_ratio.mean == pytest.approx(9, rel=1e-3)
    assert tripled.rir.mean == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("settings", [{"groups": 0, "rows": 5}, {"groups": 1, "rows": 1}, {"groups": 1, "rows": 10**6}])
def test_impossible_groups_are_refused(settings):
    with pytest.raises(InputError, match="rows"):
        grouped_ratio(jnp.eye(D), make_pair(), jax.random.key(0), **settings)
