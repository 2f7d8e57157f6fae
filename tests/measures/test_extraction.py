"""Features before and after, with what rounding left in them, whatever made them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measures.extracted import THETA, forgotten
from pairs import D, make_pair

from cimm_jax import InputError, extract
from cimm_jax.measures.extraction import Rounding
from cimm_jax.numerics.spectra import product_amplification

PRIMARY, HARMFUL = jnp.array([7, 2, 11, 2, 30, 5, 19]), jnp.array([0, 39, 4, 8, 15, 16, 23, 38])


def amplifications(before, theta, after):
    return [float(product_amplification(b.x, theta, a.x)) for b, a in zip(before, after, strict=True)]


def test_after_is_before_times_the_map_and_targets_stay():
    pair = make_pair()
    found = extract(THETA, pair)
    assert all(leaf is same for leaf, same in zip(jax.tree.leaves(found.before), jax.tree.leaves(pair), strict=True))
    assert found.theta is THETA
    for before, after in zip(pair, found.after, strict=True):
        np.testing.assert_allclose(after.x, np.asarray(before.x) @ np.asarray(THETA), rtol=1e-12)
        assert after.y is before.y


def test_rounding_is_that_of_each_task_s_product_with_the_map():
    found = extract(THETA, make_pair())
    assert found.before_rounding == Rounding(1.0, 1.0), "data are what they are"
    np.testing.assert_array_equal(found.after_rounding, amplifications(found.before, THETA, found.after))
    assert min(found.after_rounding) >= 1
    assert found.after_rounding.primary != found.after_rounding.harmful


def test_behind_a_reference_both_are_products_and_no_map_leads_from_one_to_the_other():
    pair, reference = make_pair(), jnp.asarray(np.random.default_rng(4).standard_normal((D, 3)))
    found = extract(THETA, pair, reference)
    for task, before in zip(pair, found.before, strict=True):
        np.testing.assert_allclose(before.x, np.asarray(task.x) @ np.asarray(reference), rtol=1e-12)
    np.testing.assert_array_equal(found.before_rounding, amplifications(pair, reference, found.before))
    np.testing.assert_array_equal(found.after_rounding, amplifications(pair, THETA, found.after))
    assert found.theta is None


def test_rows_are_drawn_alike_before_and_after_and_judged_by_themselves():
    found = extract(THETA, make_pair()).rows(PRIMARY, HARMFUL)
    whole = extract(THETA, make_pair())
    for name, rows in (("primary", PRIMARY), ("harmful", HARMFUL)):
        for part in ("before", "after"):
            drawn, task = getattr(getattr(found, part), name), getattr(getattr(whole, part), name)
            np.testing.assert_array_equal(drawn.x, task.x[rows])
            np.testing.assert_array_equal(drawn.y, task.y[rows])
    np.testing.assert_array_equal(found.after_rounding, amplifications(found.before, THETA, found.after))
    assert found.after_rounding != whole.after_rounding
    assert found.theta is THETA


def test_rows_of_features_without_a_map_keep_what_is_known_of_their_rounding():
    whole = forgotten(extract(THETA, make_pair()))._replace(after_rounding=Rounding(5.0, 7.0))
    found = whole.rows(PRIMARY, HARMFUL)
    np.testing.assert_array_equal(found.after.harmful.x, whole.after.harmful.x[HARMFUL])
    assert found.after_rounding == (5, 7)
    assert found.theta is None


def test_weighted_rows_are_the_same_before_and_after_with_a_map_or_without(rng):
    weights = [jnp.asarray(rng.uniform(0.5, 2, (40, 1))) for _ in range(2)]
    whole = extract(THETA, make_pair())
    by_map, by_features = whole.weighted(*weights), forgotten(whole).weighted(*weights)
    for found in (by_map, by_features):
        for part in ("before", "after"):
            for weight, task, drawn in zip(weights, getattr(whole, part), getattr(found, part), strict=True):
                np.testing.assert_allclose(drawn.x, weight * task.x, rtol=1e-12)
                assert drawn.y is None, "a resample's condition numbers need none"
    np.testing.assert_array_equal(by_map.after_rounding, amplifications(by_map.before, THETA, by_map.after))
    assert by_features.after_rounding == Rounding()


def test_many_maps_at_once_are_a_loop():
    pair, thetas = make_pair(), jnp.stack([THETA, 2 * THETA, jnp.eye(D)])
    together = jax.jit(jax.vmap(lambda theta: extract(theta, pair), out_axes=0))(thetas)
    for index, theta in enumerate(thetas):
        alone = extract(theta, pair)
        np.testing.assert_allclose(together.after.harmful.x[index], alone.after.harmful.x, rtol=1e-12)
        np.testing.assert_allclose(together.after_rounding.primary[index], alone.after_rounding.primary, rtol=1e-9)


@pytest.mark.parametrize("wrong", [jnp.eye(D + 1), jnp.ones(D)], ids=["too many rows", "a vector"])
def test_extractors_of_the_wrong_shape_are_named(wrong):
    with pytest.raises(InputError, match=rf"^theta: needs shape \({D}, m\)"):
        extract(wrong, make_pair())
    with pytest.raises(InputError, match=rf"^reference: needs shape \({D}, m\)"):
        extract(jnp.eye(D), make_pair(), wrong)
