"""The closed form as a method: its rotation, its presets, its history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import D, make_pair

from cimm_jax import Task, TaskPair, immunize, methods, relative_immunization_ratio
from cimm_jax.closed_form.solution import solve
from cimm_jax.methods._pencil import haar_rotation

PAIR = make_pair(rows=60)
BARE = TaskPair(*(Task(task.x) for task in PAIR))


def theta(method, seed=0):
    return immunize(method, PAIR, key=jax.random.key(seed)).theta


def test_without_a_rotation_it_is_the_solution():
    found = theta(methods.pencil(budget=5.0, ridge=0.1, rotate=False))
    np.testing.assert_allclose(found, solve(PAIR, budget=5.0, ridge=0.1).theta, rtol=1e-9, atol=1e-12)


def test_the_key_draws_a_rotation_that_changes_no_condition_number():
    plain, *rotated = (
        theta(methods.pencil(budget=5.0, rotate=rotate), seed) for rotate, seed in ((False, 0), (True, 0), (True, 1))
    )
    expected = relative_immunization_ratio(plain, PAIR)
    for found in rotated:
        rotation = np.linalg.solve(plain, found)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(D), atol=1e-8)
        measured = relative_immunization_ratio(found, PAIR)
        np.testing.assert_allclose(measured[:3], expected[:3], rtol=1e-7)
        assert not np.allclose(rotation, np.diag(np.diagonal(rotation)), atol=0.1), "the axes are hidden"
    assert not np.allclose(*rotated)


def test_rotations_are_drawn_uniformly():
    """E q_ij^2 = 1 / d and, which QR alone does not give, E q_ij = 0: in particular of the diagonal."""
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: haar_rotation(key, 3, jnp.float64)))(keys))
    np.testing.assert_allclose(drawn @ drawn.mT, np.broadcast_to(np.eye(3), drawn.shape), atol=1e-12)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=4 / np.sqrt(3 * len(drawn)))
    np.testing.assert_allclose((drawn**2).mean(0), 1 / 3, atol=0.03)


@pytest.mark.parametrize(
    ("preset", "objective"),
    [
        (methods.pencil_signal, methods.SignalAware()),
        (methods.pencil_no_slower, methods.SignalAware(primary_no_slower_at=(10, 100, 1000))),
    ],
)
def test_presets_are_the_same_closed_form_with_an_objective_and_a_light_ridge(preset, objective):
    expected = methods.pencil(budget="keep", objective=objective, ridge=methods.LIGHT_RIDGE, rotate=True)
    assert preset() is expected
    assert preset(budget=5.0, ridge=None, rotate=False) is methods.pencil(
        budget=5.0, objective=objective, ridge=None, rotate=False
    )
    assert preset().needs_targets
    assert not methods.pencil().needs_targets


def test_its_one_record_is_of_the_undefended_extractor_and_has_no_loss():
    history = immunize(methods.pencil(), BARE, steps=5).history
    assert history.loss.shape == (1,)
    assert np.isnan(history.loss[0])
    for kappa, task in ((history.kappa_primary, PAIR.primary), (history.kappa_harmful, PAIR.harmful)):
        np.testing.assert_allclose(kappa, np.linalg.cond(np.asarray(task.x)) ** 2, rtol=1e-9)
