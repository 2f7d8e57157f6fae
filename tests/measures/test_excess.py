"""How fast a probe learns before and after."""

import jax.numpy as jnp
import numpy as np
import pytest
from measures.extracted import THETA, blown_up, forgotten, whitening
from pairs import D, make_pair

from cimm_jax import Task, extract
from cimm_jax.measures.excess import CURVE_STEPS, excess_curves, steps_to_half
from cimm_jax.numerics.convergence import excess_left

STEPS = 60


def test_curves_start_at_nothing_learned_and_are_what_exact_line_search_leaves():
    extraction = extract(THETA, make_pair())
    found = excess_curves(extraction, STEPS)
    for name, curves in found._asdict().items():
        for curve, pair in ((curves.undefended, extraction.before), (curves.immunized, extraction.after)):
            task = getattr(pair, name)
            assert curve.shape == (STEPS + 1,)
            np.testing.assert_allclose(curve[0], 1, rtol=1e-12)
            np.testing.assert_allclose(curve[[1, 7, STEPS]], excess_left(task.x, task.y, (1, 7, STEPS)), rtol=1e-9)
        assert curves.horizon == STEPS


def test_without_being_asked_a_thousand_steps_are_made():
    assert excess_curves(extract(jnp.eye(D), make_pair())).harmful.horizon == CURVE_STEPS == 1000


def test_whitened_features_are_learned_in_one_step():
    pair = make_pair()
    found = excess_curves(extract(whitening(pair.primary.x), pair), 3)
    np.testing.assert_allclose(found.primary.immunized, [1, 0, 0, 0], atol=1e-9)
    assert found.primary.undefended[1] > 0.01


def test_a_task_without_targets_has_no_curves():
    pair = make_pair()
    found = excess_curves(extract(THETA, pair._replace(primary=Task(pair.primary.x))), 3)
    assert found.primary is None
    np.testing.assert_array_equal(found.harmful.immunized, excess_curves(extract(THETA, pair), 3).harmful.immunized)


def test_rounding_errors_that_a_map_blows_up_are_not_learned_from(rng):
    extraction = blown_up(rng, make_pair(), 1e8)
    others = extract(extraction.theta.at[:, 0].set(0), extraction.before)
    found, expected = excess_curves(extraction, STEPS), excess_curves(others, STEPS)
    for curves, known in zip(found, expected, strict=True):
        np.testing.assert_allclose(curves.immunized, known.immunized, rtol=1e-6)
    innocent = excess_curves(forgotten(extraction), STEPS)
    assert abs(innocent.harmful.immunized - found.harmful.immunized).max() > 1e-3, "else there is nothing to be seen"


@pytest.mark.parametrize(
    ("curve", "steps"),
    [([1, 0.7, 0.5, 0.2], 2), ([1, 0.1], 1), ([0.2, 0.1], 1), ([1, 0.9, 0.51], None), ([0.0, 0.0], 1)],
)
def test_steps_to_half(curve, steps):
    assert steps_to_half(np.array(curve)) == steps
