"""What blocks are trained to give instead of a map: the map's features, but for what changes neither kappa nor a head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax import InputError
from cimm_jax.closed_form.wanted_features import goal_of

ROWS, FEATURES = (40, 30), 5


def rectified(rng):
    return tuple(np.abs(rng.normal(size=(rows, FEATURES))) * np.arange(1, FEATURES + 1) for rows in ROWS)


def of_rank(rng, rank):
    return rng.normal(size=(FEATURES, rank)) @ rng.normal(size=(rank, FEATURES))


@pytest.mark.parametrize("rank", [FEATURES, 2])
def test_wanted_features_are_mapped_ones_turned_scaled_and_shifted(rng, rank):
    published, theta = rectified(rng), of_rank(rng, rank)
    goal = goal_of(theta, *published)
    mapped, wanted = (np.concatenate([f(x) for x in published]) for f in (lambda x: x @ theta, goal.features))
    distances = [np.linalg.norm(values[:, None] - values[None], axis=2) for values in (mapped, wanted)]
    ratio = distances[1][0, 1] / distances[0][0, 1]
    np.testing.assert_allclose(distances[1], ratio * distances[0], atol=1e-9)
    constant = wanted.std(0) < 1e-12
    assert constant.tolist() == [True] * (FEATURES - rank) + [False] * rank, "the last ones vary most"
    assert wanted.min() >= 0
    assert (wanted[:, constant] == 0).all(), "a rectifier can be off for good"
    lifted = np.asarray(goal.shift) > 0
    assert lifted.any()
    assert (wanted[:, lifted].min(0) < 1e-9).all(), "no further than they need"


def test_wanted_features_vary_as_much_as_published_ones_and_lie_nearest_to_them(rng):
    published, theta = rectified(rng), of_rank(rng, FEATURES)
    goal = goal_of(theta, *published)

    def centred(parts):
        mean = sum(x.mean(0) for x in parts) / 2
        return np.concatenate([(x - mean) / len(x) ** 0.5 for x in parts])

    there, wanted = centred(published), centred([x @ np.asarray(goal.theta) for x in published])
    assert (wanted**2).sum() == pytest.approx((there**2).sum())
    common = wanted.T @ there  # symmetric without negative eigenvalues: no turn comes nearer (Procrustes)
    np.testing.assert_allclose(common, common.T, atol=1e-9)
    assert np.linalg.eigvalsh(common).min() > 0


def test_errors_count_in_units_of_the_deviation_wanted_of_the_task_by_direction(rng):
    primary, harmful = rectified(rng)
    theta = np.diag([1.0, 1.0, 1.0, 0.05, 0.05])
    goal = goal_of(theta, primary, 0.1 * harmful, coarse=1e-9)
    for x, units in zip((primary, 0.1 * harmful), goal.units, strict=True):
        measured = np.cov((x @ np.asarray(goal.theta) @ np.asarray(units)).T, bias=True)
        np.testing.assert_allclose(measured, np.eye(FEATURES) / FEATURES, atol=1e-6)
    coarser = goal_of(theta, primary, 0.1 * harmful, coarse=0.1)
    assert np.linalg.norm(coarser.units[0], 2) < 0.5 * np.linalg.norm(goal.units[0], 2)


def test_features_that_may_be_negative_are_not_shifted(rng):
    published = tuple(rng.normal(size=(rows, FEATURES)) for rows in ROWS)
    assert not goal_of(of_rank(rng, FEATURES), *published).shift.any()


def test_it_is_pure_and_float32_will_do(rng):
    published, theta = rectified(rng), of_rank(rng, 2)
    whole = goal_of(theta, *published)
    traced = jax.jit(goal_of)(*(jnp.asarray(array, jnp.float32) for array in (theta, *published)))
    assert traced.theta.dtype == jnp.float32
    for one, other in zip(jax.tree.leaves(traced), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * float(jnp.abs(other).max()))


def test_what_is_no_matrix_is_refused(rng):
    with pytest.raises(InputError, match=r"^harmful: "):
        goal_of(np.eye(FEATURES), np.ones((3, FEATURES)), np.ones(3))
