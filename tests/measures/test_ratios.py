"""The relative immunization ratio against cases whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measures.extracted import THETA, blown_up, forgotten
from pairs import D, make_pair

from cimm_jax import (
    InputError,
    PseudoInverse,
    ReleasedCode,
    Ridge,
    extract,
    immunization_ratio,
    relative_immunization_ratio,
)
from cimm_jax.measures.ratios import ratios_by_policy


def test_identity_has_ratio_one():
    measured = relative_immunization_ratio(jnp.eye(D), make_pair())
    np.testing.assert_allclose([measured.rir, measured.harmful_ratio, measured.primary_ratio], 1, rtol=1e-12)


def test_ratio_is_the_quotient_of_four_condition_numbers():
    pair, theta = make_pair(), THETA
    kappa = lambda x: np.linalg.cond(np.asarray(x)) ** 2  # noqa: E731
    harmful = kappa(pair.harmful.x @ theta) / kappa(pair.harmful.x)
    primary = kappa(pair.primary.x @ theta) / kappa(pair.primary.x)
    measured = relative_immunization_ratio(theta, pair)
    np.testing.assert_allclose(measured.harmful_ratio, harmful, rtol=1e-8)
    np.testing.assert_allclose(measured.primary_ratio, primary, rtol=1e-8)
    np.testing.assert_allclose(measured.rir, harmful / primary, rtol=1e-8)


def test_any_reference_extractor_takes_the_place_of_the_identity():
    pair, theta = make_pair(), THETA
    np.testing.assert_allclose(relative_immunization_ratio(theta, pair, reference=theta).rir, 1, rtol=1e-9)


@pytest.mark.parametrize("policy", [PseudoInverse(), Ridge(1e-3)])
def test_ratio_does_not_move_when_the_features_are_scaled(policy):
    pair, theta = make_pair(), THETA
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


def test_of_any_extractor_it_is_made_of_features_before_and_after():
    """Features of three columns, of which no map is known; by NumPy."""
    before, after = make_pair(1), make_pair(2, rows=40)
    after = jax.tree.map(lambda leaf: leaf[:, :3] if leaf.ndim == 2 else leaf, after)
    found = immunization_ratio(forgotten(extract(THETA, before))._replace(after=after))
    kappas = {
        (part, name): np.linalg.cond(np.asarray(task.x)) ** 2
        for part, pair in (("before", before), ("after", after))
        for name, task in pair._asdict().items()
    }
    harmful, primary = (kappas["after", name] / kappas["before", name] for name in ("harmful", "primary"))
    np.testing.assert_allclose(found.harmful_ratio, harmful, rtol=1e-8)
    np.testing.assert_allclose(found.primary_ratio, primary, rtol=1e-8)
    np.testing.assert_allclose(found.rir, harmful / primary, rtol=1e-8)
    np.testing.assert_allclose(found.primary_reference.kappa, kappas["before", "primary"], rtol=1e-8)
    np.testing.assert_allclose(found.harmful.kappa, kappas["after", "harmful"], rtol=1e-8)


def test_rounding_errors_that_a_map_blows_up_are_no_directions(rng):
    extraction = blown_up(rng, make_pair(), 1e4)
    assert immunization_ratio(extraction).harmful_ratio < 5
    assert immunization_ratio(forgotten(extraction)).harmful_ratio > 1e6, "else there is nothing to be seen"


@pytest.mark.parametrize("part", ["before", "after"])
@pytest.mark.parametrize("name", ["primary", "harmful"])
def test_a_floor_under_any_of_the_four_is_flagged(part, name):
    extraction, policy = extract(THETA, make_pair()), Ridge(1e-8)
    assert not immunization_ratio(extraction, policy).floored
    pair = getattr(extraction, part)
    task = getattr(pair, name)
    thin = task._replace(x=task.x.at[:, 0].multiply(1e-6))
    floored = extraction._replace(**{part: pair._replace(**{name: thin})})
    assert immunization_ratio(floored, policy).floored


def test_both_policies_are_measured():
    extraction = extract(THETA, make_pair())
    found = ratios_by_policy(extraction)
    assert list(found) == ["PseudoInverse", "ReleasedCode"]
    for policy in (PseudoInverse(), ReleasedCode()):
        assert found[type(policy).__name__].rir == immunization_ratio(extraction, policy).rir


def test_extractors_of_the_wrong_shape_are_named():
    with pytest.raises(InputError, match="theta"):
        relative_immunization_ratio(jnp.eye(D + 1), make_pair())
    with pytest.raises(InputError, match="reference"):
        relative_immunization_ratio(jnp.eye(D), make_pair(), reference=jnp.ones(D))
