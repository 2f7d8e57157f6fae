"""Definition 3.1, condition by condition, against cases whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measures.extracted import THETA, blown_up, forgotten, whitening
from pairs import D, make_pair

from cimm_jax import Ridge, Task, definition_3_1, extract, judge
from cimm_jax.numerics.least_squares import probe_loss


def test_whitening_the_primary_task_meets_b_and_c():
    pair = make_pair()
    verdict = definition_3_1(extract(whitening(pair.primary.x), pair), much_greater=2)
    assert verdict.primary_as_easy
    assert verdict.primary_kept
    assert verdict.harmful_harder
    assert verdict.immunized


def test_each_condition_fails_for_its_own_reason():
    pair = make_pair()
    identity = definition_3_1(extract(jnp.eye(D), pair))
    assert not identity.harmful_harder
    assert not identity.immunized
    worse = definition_3_1(extract(whitening(pair.harmful.x), pair))
    assert not worse.primary_as_easy
    collapsed = definition_3_1(extract(jnp.diag(jnp.array([1.0] + [0.0] * (D - 1))), pair))
    assert collapsed.primary_kept is False
    assert not collapsed.immunized
    assert [reason[:3] for reason in identity.reasons] == ["(a)", "(b)", "(c)"]


def test_the_verdict_is_the_judgement_in_words():
    extraction = extract(THETA, make_pair())
    judged, verdict = (
        judge(extraction, much_greater=3, tolerance=0.2),
        definition_3_1(extraction, much_greater=3, tolerance=0.2),
    )
    assert verdict[:4] == (bool(judged.conditions.immunized), *map(bool, judged.conditions))
    a, b, c = verdict.reasons
    for figure in (judged.ratio.harmful_reference.kappa, judged.ratio.harmful.kappa, judged.ratio.harmful_ratio, 3):
        assert f"{figure:.4g}" in a
    for figure in (judged.ratio.primary_reference.kappa, judged.ratio.primary.kappa, judged.ratio.primary_ratio, 1.2):
        assert f"{figure:.4g}" in b
    assert f"{judged.loss_after:.4g}, before {judged.loss_before:.4g} (allowed: 20% more)" in c


def test_the_caller_decides_what_is_much_and_how_much_may_be_lost():
    extraction = extract(THETA, make_pair())
    harmful, primary = (float(ratio) for ratio in judge(extraction).ratio[1:3])
    for much, holds in ((harmful * 0.999, True), (harmful * 1.001, False)):
        assert bool(judge(extraction, much_greater=much).conditions.harmful_harder) == holds
    for tolerance, holds in ((primary * 1.001 - 1, True), (primary * 0.999 - 1, False)):
        assert bool(judge(extraction, tolerance=tolerance).conditions.primary_as_easy) == holds


def test_how_much_primary_loss_may_be_lost_is_the_caller_s_too():
    collapsed = extract(jnp.eye(D)[:, :2], make_pair())
    judged = judge(collapsed)
    lost = float(judged.loss_after / judged.loss_before) - 1
    assert lost > 0.01
    assert not judged.conditions.primary_kept
    assert judge(collapsed, tolerance=lost * 1.01).conditions.primary_kept
    assert not judge(collapsed, tolerance=lost * 0.99).conditions.primary_kept


def test_without_targets_c_is_not_judged():
    pair = make_pair()
    unlabelled = pair._replace(primary=pair.primary._replace(y=None))
    verdict = definition_3_1(extract(jnp.eye(D), unlabelled))
    assert verdict.primary_kept is None
    assert "not judged" in verdict.reasons[2]
    pair, theta = make_pair(rows=400), whitening(make_pair(rows=400).primary.x)
    unlabelled = pair._replace(primary=pair.primary._replace(y=None))
    assert definition_3_1(extract(theta, unlabelled), much_greater=2).immunized, "(c) forbids nothing that is not known"


def test_probes_are_fitted_on_other_rows_and_judged_on_these():
    fit, pair = extract(THETA, make_pair(1)), make_pair(0)
    judged = judge(extract(THETA, pair), fit_on=fit)
    x, y = fit.before.primary
    w = np.linalg.lstsq(np.asarray(x), np.asarray(y), rcond=None)[0]
    expected = np.mean((np.asarray(pair.primary.x) @ w - pair.primary.y) ** 2)
    np.testing.assert_allclose([judged.loss_before, judged.loss_after], expected, rtol=1e-8)
    assert expected > judge(extract(THETA, pair)).loss_before, "rows that nobody fitted are harder"


def test_features_are_judged_as_the_map_that_made_them():
    by_map, fit = extract(THETA, make_pair(0)), extract(THETA, make_pair(1))
    judged = judge(by_map, fit_on=fit)
    by_features = judge(forgotten(by_map), fit_on=forgotten(fit))
    assert by_features.loss_after == pytest.approx(float(judged.loss_after), rel=1e-8)
    assert by_features.loss_before == pytest.approx(float(judged.loss_before), rel=1e-8)
    assert by_features.ratio.rir == pytest.approx(float(judged.ratio.rir), rel=1e-8)
    said = definition_3_1(forgotten(by_map), fit_on=forgotten(fit))
    assert said.reasons == definition_3_1(by_map, fit_on=fit).reasons


def test_an_invertible_extractor_keeps_the_primary_loss():
    judged = judge(extract(THETA, make_pair()))
    np.testing.assert_allclose(judged.loss_after, judged.loss_before, rtol=1e-9)


def test_c_does_not_fit_rounding_errors_that_a_map_blows_up(rng):
    extraction = blown_up(rng, make_pair(), 1e8)
    judged = judge(extraction)
    assert probe_loss(extraction.after.primary, extraction.after.primary) < 0.999 * judged.loss_before
    np.testing.assert_allclose(judged.loss_after, judged.loss_before, rtol=1e-9)


def test_a_loss_of_nothing_but_rounding_stays_kept():
    pair = make_pair()
    x = pair.primary.x
    pair = pair._replace(primary=pair.primary._replace(y=x @ jnp.arange(1.0, D + 1)))
    judged = judge(extract(THETA, pair))
    assert judged.loss_before < 1e-20
    assert judged.conditions.primary_kept


@pytest.mark.parametrize("power", [-600, 600])
def test_c_does_not_depend_on_the_units_of_the_targets(power):
    """Their squares are no numbers: infinity is not kept because it is no more than infinity, nor zero than zero."""
    pair, collapse = make_pair(), jnp.eye(D)[:, :2]
    small = pair._replace(primary=Task(pair.primary.x, jnp.ldexp(pair.primary.y, -30)))  # 1e-18 more is not nothing
    assert not judge(extract(collapse, small)).conditions.primary_kept
    moved = pair._replace(primary=Task(pair.primary.x, jnp.ldexp(pair.primary.y, power)))
    assert not judge(extract(collapse, moved)).conditions.primary_kept
    assert judge(extract(THETA, moved)).conditions.primary_kept
    judged, plain = judge(extract(THETA, moved)), judge(extract(THETA, pair))
    np.testing.assert_array_equal(judged.loss_before, np.inf if power > 0 else 0)
    half = pair._replace(primary=Task(pair.primary.x, jnp.ldexp(pair.primary.y, power // 2)))
    np.testing.assert_allclose(judge(extract(THETA, half)).loss_after, jnp.ldexp(plain.loss_after, power), rtol=1e-9)


@pytest.mark.parametrize(("of_inputs", "of_map"), [(-400, -500), (300, 600), (-1000, 900)])
def test_the_judgement_does_not_depend_on_the_units_of_inputs_or_map(of_inputs, of_map):
    pair = make_pair()
    moved = jax.tree.map(
        lambda task: Task(jnp.ldexp(task.x, of_inputs), task.y), pair, is_leaf=lambda t: isinstance(t, Task)
    )
    judged, plain = judge(extract(jnp.ldexp(THETA, of_map), moved)), judge(extract(THETA, pair))
    for found, expected in ((judged.ratio[:3], plain.ratio[:3]), (judged.conditions, plain.conditions)):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    np.testing.assert_allclose(
        [judged.loss_before, judged.loss_after], [plain.loss_before, plain.loss_after], rtol=1e-9
    )


def test_an_extractor_of_nan_is_not_immunized_where_it_cannot_be_refused():
    judged = jax.jit(lambda theta: judge(extract(theta, make_pair())))(jnp.full((D, D), jnp.nan))
    assert not any(judged.conditions)
    assert judged.ratio.floored


def test_a_floor_that_decides_is_confessed():
    extraction = extract(THETA, make_pair())
    assert len(definition_3_1(extraction).reasons) == 3
    reasons = definition_3_1(extraction, policy=Ridge(10.0)).reasons
    assert reasons[-1].startswith("caution: ")
    assert "Ridge(relative=10.0)" in reasons[-1]


def test_the_policy_decides_what_is_a_zero():
    extraction, policy = extract(THETA, make_pair()), Ridge(0.1)
    assert judge(extraction, policy=policy).ratio.rir != judge(extraction).ratio.rir
    assert definition_3_1(extraction, policy=policy).reasons != definition_3_1(extraction).reasons


def test_many_extractors_are_judged_at_once():
    pair, thetas = make_pair(), jnp.stack([THETA, jnp.eye(D), whitening(make_pair().primary.x)])
    together = jax.jit(jax.vmap(lambda theta: judge(extract(theta, pair))))(thetas)
    for index, theta in enumerate(thetas):
        alone = judge(extract(theta, pair))
        np.testing.assert_allclose(together.ratio.rir[index], alone.ratio.rir, rtol=1e-9)
        np.testing.assert_array_equal([c[index] for c in together.conditions], list(alone.conditions))
