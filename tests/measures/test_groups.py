"""RIR in groups of rows, as the paper reports it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measures.extracted import blown_up, forgotten
from pairs import D, make_pair

from cimm_jax import InputError, PseudoInverse, ReleasedCode, extract, immunization_ratio
from cimm_jax.closed_form.solution import solve
from cimm_jax.measures.groups import GROUPS, grouped_ratio, groups_by_policy

KEY = jax.random.key(0)


@pytest.mark.parametrize("policy", [PseudoInverse(), ReleasedCode()])
@pytest.mark.parametrize("known", [True, False], ids=["a map", "features alone"])
def test_one_group_of_all_rows_is_the_ratio_itself(policy, known):
    pair = make_pair()
    extraction = extract(solve(pair).theta, pair)
    extraction = extraction if known else forgotten(extraction)
    found = grouped_ratio(extraction, KEY, groups=1, rows=len(pair.primary.x), policy=policy)
    expected = immunization_ratio(extraction, policy)
    assert found.rir.mean == pytest.approx(float(expected.rir), rel=1e-6)
    assert found.harmful_ratio.mean == pytest.approx(float(expected.harmful_ratio), rel=1e-6)
    assert found.primary_ratio.mean == pytest.approx(float(expected.primary_ratio), rel=1e-6)
    assert np.isnan(found.rir.standard_error)
    assert found.warning == ""


def test_rounding_errors_that_a_map_blows_up_are_no_directions(rng):
    extraction = blown_up(rng, make_pair(), 1e4)
    found = grouped_ratio(extraction, KEY, groups=1, rows=len(extraction.after.primary.x))
    assert found.harmful_ratio.mean == pytest.approx(float(immunization_ratio(extraction).harmful_ratio))
    assert found.harmful_ratio.mean < 5


def test_groups_differ_and_small_ones_are_warned_of():
    pair = make_pair()
    extraction = extract(solve(pair).theta, pair)
    found = grouped_ratio(extraction, KEY, groups=6, rows=D // 2)
    assert found.rir.standard_error > 0
    assert (found.groups, found.rows) == (6, D // 2)
    assert f"{D // 2} rows" in found.warning
    again = grouped_ratio(extraction, KEY, groups=6, rows=D // 2)
    assert again.rir == found.rir
    assert grouped_ratio(extraction, jax.random.key(1), groups=6, rows=D // 2).rir != found.rir


def test_features_before_and_after_are_drawn_together():
    """So that the same features have the ratio 1 in every group, however much groups differ."""
    pair = make_pair()
    same = forgotten(extract(jnp.eye(D), pair))._replace(after=pair)
    assert grouped_ratio(same, KEY, groups=3, rows=D + 3).rir == (1, 0)
    other = pair._replace(harmful=pair.harmful._replace(x=pair.harmful.x[::-1]))
    assert grouped_ratio(same._replace(after=other), KEY, groups=3, rows=D + 3).harmful_ratio.mean != 1


def test_the_released_rule_on_few_rows_is_its_floor():
    """kappa is then sigma_max over 1e-6, before and after."""
    tripled = grouped_ratio(extract(3 * jnp.eye(D), make_pair()), KEY, groups=3, rows=2, policy=ReleasedCode())
    assert tripled.harmful_ratio.mean == pytest.approx(9, rel=1e-3)
    assert tripled.rir.mean == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(("available", "rows"), [(130, 100), (12, 12)])
def test_both_policies_get_groups_of_a_hundred_rows_or_all_there_are(available, rows):
    found = groups_by_policy(extract(jnp.eye(D), make_pair(rows=available)), KEY)
    assert list(found) == ["PseudoInverse", "ReleasedCode"]
    assert {(group.groups, group.rows) for group in found.values()} == {(GROUPS, rows)}


@pytest.mark.parametrize("settings", [{"groups": 0, "rows": 5}, {"groups": 1, "rows": 1}, {"groups": 1, "rows": 10**6}])
def test_impossible_groups_are_refused(settings):
    with pytest.raises(InputError, match="rows"):
        grouped_ratio(extract(jnp.eye(D), make_pair()), KEY, **settings)
