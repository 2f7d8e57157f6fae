"""The ratio, Definition 3.1 and Proposition 3.2 against cases whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import D, make_pair

from cimm_jax import InputError, PseudoInverse, Ridge, covariance, probe_hessian
from cimm_jax.measures.metrics import (
    definition_3_1,
    judge,
    judge_features,
    probe_loss,
    proposition_3_2,
    relative_immunization_ratio,
    verdict_of,
)


def whitening(x):
    values, vectors = np.linalg.eigh(np.asarray(x.T @ x))
    return jnp.asarray(vectors / np.sqrt(values))


def test_identity_has_ratio_one():
    measured = relative_immunization_ratio(jnp.eye(D), make_pair())
    np.testing.assert_allclose([measured.rir, measured.harmful_ratio, measured.primary_ratio], 1, rtol=1e-12)


def test_ratio_is_the_quotient_of_four_condition_numbers():
    pair, theta = make_pair(), jnp.asarray(np.random.default_rng(3).standard_normal((D, D)))
    kappa = lambda x: np.linalg.cond(np.asarray(x)) ** 2  # noqa: E731
    harmful = kappa(pair.harmful.x @ theta) / kappa(pair.harmful.x)
    primary = kappa(pair.primary.x @ theta) / kappa(pair.primary.x)
    measured = relative_immunization_ratio(theta, pair)
    np.testing.assert_allclose(measured.harmful_ratio, harmful, rtol=1e-8)
    np.testing.assert_allclose(measured.primary_ratio, primary, rtol=1e-8)
    np.testing.assert_allclose(measured.rir, harmful / primary, rtol=1e-8)


def test_any_reference_extractor_takes_the_place_of_the_identity():
    pair, theta = make_pair(), jnp.asarray(np.random.default_rng(3).standard_normal((D, D)))
    np.testing.assert_allclose(relative_immunization_ratio(theta, pair, reference=theta).rir, 1, rtol=1e-9)


@pytest.mark.parametrize("policy", [PseudoInverse(), Ridge(1e-3)])
def test_ratio_does_not_move_when_the_features_are_scaled(policy):
    pair, theta = make_pair(), jnp.asarray(np.random.default_rng(3).standard_normal((D, D)))
    scaled = pair._replace(
        primary=pair.primary._replace(x=3 * pair.primary.x), harmful=pair.harmful._replace(x=3 * pair.harmful.x)
    )
    before, after = (relative_immunization_ratio(theta, p, policy).rir for p in (pair, scaled))
    np.testing.assert_allclose(after, before, rtol=1e-9)


def test_ratio_under_jit_and_vmap():
    pair = make_pair()
    thetas = jnp.asarray(np.random.default_rng(3).standard_normal((4, D, D)))
    together = jax.jit(jax.vmap(lambda theta: relative_immunization_ratio(theta, pair).rir))(thetas)
    np.testing.assert_allclose(together, [relative_immunization_ratio(t, pair).rir for t in thetas], rtol=1e-9)


def test_whitening_the_primary_task_meets_b_and_c():
    pair = make_pair()
    verdict = definition_3_1(whitening(pair.primary.x), pair, much_greater=2)
    assert verdict.primary_as_easy
    assert verdict.primary_kept
    assert verdict.immunized == verdict.harmful_harder


def test_features_are_judged_as_the_map_that_made_them():
    pair, theta = make_pair(), jnp.asarray(np.random.default_rng(3).standard_normal((D, D)))
    mapped = pair._replace(**{name: task._replace(x=task.x @ theta) for name, task in pair._asdict().items()})
    fit = jax.tree.map(lambda leaf: leaf[::2], pair.primary)
    by_map = judge(theta, pair, fit_on=fit)
    by_features = judge_features(mapped, pair, fit_on=(fit._replace(x=fit.x @ theta), fit))
    assert by_features.loss_after == pytest.approx(float(by_map.loss_after), rel=1e-8)
    assert by_features.loss_before == pytest.approx(float(by_map.loss_before), rel=1e-8)
    assert by_features.ratio.rir == pytest.approx(float(by_map.ratio.rir), rel=1e-8)
    said = verdict_of(by_features, pair.primary)
    assert said.reasons == definition_3_1(theta, pair, fit_on=fit).reasons
    assert verdict_of(by_features, pair.primary._replace(y=None)).primary_kept is None


def test_each_condition_fails_for_its_own_reason():
    pair = make_pair()
    identity = definition_3_1(jnp.eye(D), pair)
    assert not identity.harmful_harder
    assert not identity.immunized
    worse = definition_3_1(whitening(pair.harmful.x), pair)
    assert not worse.primary_as_easy
    collapsed = definition_3_1(jnp.diag(jnp.array([1.0] + [0.0] * (D - 1))), pair)
    assert collapsed.primary_kept is False
    assert not collapsed.immunized
    assert [reason[:3] for reason in identity.reasons] == ["(a)", "(b)", "(c)"]


def test_without_targets_c_is_not_judged():
    pair = make_pair()
    unlabelled = pair._replace(primary=pair.primary._replace(y=None))
    verdict = definition_3_1(jnp.eye(D), unlabelled)
    assert verdict.primary_kept is None
    assert "not judged" in verdict.reasons[2]


def test_probe_loss_is_that_of_least_squares_also_on_other_rows():
    fit, other = make_pair(0).primary, make_pair(1).primary
    w = np.linalg.lstsq(np.asarray(fit.x), np.asarray(fit.y), rcond=None)[0]
    np.testing.assert_allclose(probe_loss(fit, other), np.mean((other.x @ w - other.y) ** 2), rtol=1e-9)


def test_c_does_not_fit_rounding_errors_that_a_map_blows_up(rng):
    """The primary task lacks a direction, and theta makes it a hundred million times as prominent as the others."""
    basis = np.linalg.qr(rng.standard_normal((D, D)))[0]
    pair = make_pair()
    x = jnp.asarray(np.asarray(pair.primary.x) @ (basis * np.r_[0, np.ones(D - 1)]) @ basis.T)
    pair = pair._replace(primary=pair.primary._replace(x=x))
    theta = jnp.asarray(basis * np.r_[1e8, np.ones(D - 1)])
    judged = judge(theta, pair)
    assert (
        probe_loss(pair.primary._replace(x=x @ theta), pair.primary._replace(x=x @ theta)) < 0.999 * judged.loss_before
    )
    np.testing.assert_allclose(judged.loss_after, judged.loss_before, rtol=1e-9)


def test_an_invertible_extractor_keeps_the_primary_loss():
    pair, theta = make_pair(), jnp.asarray(np.random.default_rng(3).standard_normal((D, D)))
    judged = judge(theta, pair)
    np.testing.assert_allclose(judged.loss_after, judged.loss_before, rtol=1e-9)


def test_proposition_3_2_is_exact_when_theta_and_k_share_eigenvectors():
    k = covariance(make_pair().primary.x)
    vectors = jnp.linalg.eigh(k)[1]
    right = jnp.linalg.qr(jnp.asarray(np.random.default_rng(4).standard_normal((D, D))))[0]
    theta = vectors @ jnp.diag(jnp.arange(1.0, D + 1)) @ right
    result = proposition_3_2(theta, k)
    exact = jnp.linalg.svd(probe_hessian(theta, k), compute_uv=False)
    assert result.off_diagonal < 1e-12
    np.testing.assert_allclose(np.sort(result.values)[::-1], exact, rtol=1e-10)


def test_proposition_3_2_is_a_diagonal_otherwise():
    theta = jnp.diag(jnp.array([2.0, 1.0]))  # its singular vectors are the axes, and K's are not
    k = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    result = proposition_3_2(theta, k)
    h = probe_hessian(theta, k)
    np.testing.assert_allclose(result.values, jnp.diagonal(h))  # 8 and 2
    exact = jnp.linalg.svd(h, compute_uv=False)  # 5 +- sqrt(13)
    np.testing.assert_allclose(exact, [5 + 13**0.5, 5 - 13**0.5])
    assert result.off_diagonal > 0.1
    np.testing.assert_allclose(result.values.sum(), exact.sum())
    assert result.values.max() < exact[0]


def test_extractors_of_the_wrong_shape_are_named():
    with pytest.raises(InputError, match="theta"):
        relative_immunization_ratio(jnp.eye(D + 1), make_pair())
    with pytest.raises(InputError, match="reference"):
        relative_immunization_ratio(jnp.eye(D), make_pair(), reference=jnp.ones(D))
