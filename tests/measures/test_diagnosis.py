"""The diagnosis: verdicts on pairs whose answer is known, and what it reports."""

import math

import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax import InputError, Task, TaskPair
from cimm_jax.closed_form.limits import pair_limit
from cimm_jax.data import load_pair
from cimm_jax.measures.diagnosis import PROTECTED, alignment, diagnose

pytestmark = pytest.mark.usefixtures("standard_promotion")

ROWS, D = 300, 8


def labelled(rng, x, direction):
    return Task(jnp.asarray(x), jnp.asarray(x @ direction + 0.1 * rng.standard_normal(len(x))))


def apart(rng):
    """The primary task lives on the first axes, the harmful labels on the last, a harmful nuisance on the first."""
    primary = rng.standard_normal((ROWS, D)) * np.geomspace(1, 3, D)
    harmful = rng.standard_normal((ROWS, D)) * np.geomspace(30, 1, D)
    return TaskPair(labelled(rng, primary, np.eye(D)[0]), labelled(rng, harmful, np.eye(D)[-1]))


def same(rng):
    task = labelled(rng, rng.standard_normal((ROWS, D)) * np.geomspace(3, 1, D), np.ones(D))
    return TaskPair(task, task)


def test_tasks_that_use_different_directions_are_immunizable(rng):
    diagnosis = diagnose(apart(rng), heldout=apart(rng))
    assert diagnosis.verdict == "immunizable"
    assert diagnosis.protection.free >= PROTECTED
    assert diagnosis.undefended[1][-1] < 0.01


def test_a_task_cannot_be_immunized_against_itself(rng):
    diagnosis = diagnose(same(rng))
    assert diagnosis.verdict == "impossible"
    np.testing.assert_allclose(float(diagnosis.limit.log_rir), 0, atol=1e-8)
    np.testing.assert_allclose(diagnosis.alignment.score, D, rtol=1e-8)
    np.testing.assert_allclose(diagnosis.alignment.angles, 0, atol=1e-4)
    assert any("proportional" in reason for reason in diagnosis.reasons)


@pytest.mark.slow
def test_images_of_two_digits_cost():
    # All targets are 1, so both tasks want the mean image, and two digits have much of it in common.
    diagnosis = diagnose(load_pair("digits", primary="3", harmful="5").train)
    assert diagnosis.verdict == "costly"
    assert diagnosis.protection.free < PROTECTED <= diagnosis.protection.costly
    assert diagnosis.protection.slow_down > 1


def test_without_targets_only_condition_numbers_are_judged(rng):
    pair = TaskPair(*(Task(task.x) for task in apart(rng)))
    diagnosis = diagnose(pair)
    assert diagnosis.verdict == "immunizable"
    assert diagnosis.protection is diagnosis.harmful_energy is diagnosis.undefended is None
    assert all(row.harmful_left is None for row in diagnosis.budgets)
    assert any("Without targets" in reason for reason in diagnosis.reasons)


def test_budgets_are_kept_and_buy_what_theory_says(rng):
    diagnosis = diagnose(apart(rng), budgets=(1.0, 50.0, "keep"), ridge=0.0)
    kappa = float(diagnosis.limit.kappa_primary)
    for row, allowed in zip(diagnosis.budgets, (1.0, 50.0, kappa), strict=True):
        np.testing.assert_allclose(row.train.primary.kappa, allowed, rtol=1e-6)
        np.testing.assert_allclose(row.train.harmful_ratio, row.best_harmful_ratio, rtol=1e-6)
        np.testing.assert_allclose(row.train.primary_ratio, row.best_primary_ratio, rtol=1e-6)
    assert diagnosis.budgets[0].harmful_left <= diagnosis.budgets[1].harmful_left


def test_the_limit_is_that_of_the_pair_and_directions_are_counted(rng):
    pair = apart(rng)
    x = np.asarray(pair.harmful.x) @ np.diag(np.r_[np.ones(D - 2), 0, 0])
    pair = TaskPair(pair.primary, labelled(rng, x, np.ones(D)))
    diagnosis = diagnose(pair, top_k=20)
    assert diagnosis.primary_only == 2
    assert diagnosis.harmful_only == 0
    assert diagnosis.rank_harmful == D - 2
    assert not diagnosis.limit.harmful_only
    assert len(diagnosis.alignment.angles) == D - 2
    np.testing.assert_allclose(diagnosis.limit.log_rir, pair_limit(pair).log_rir)


def test_directions_that_only_the_harmful_task_has_are_counted_and_set_aside(rng):
    pair = apart(rng)
    x = np.asarray(pair.primary.x) @ np.diag(np.r_[np.ones(D - 3), 0, 0, 0])
    diagnosis = diagnose(TaskPair(labelled(rng, x, np.ones(D)), pair.harmful))
    assert diagnosis.harmful_only == 3
    assert diagnosis.primary_only == 0
    assert diagnosis.limit.harmful_only
    assert np.isinf(diagnosis.limit.ratio)
    assert any("trap" in reason for reason in diagnosis.reasons)


def test_alignment_of_prescribed_vectors(rng):
    u, v = prescribed.orthonormal(rng, D, D), prescribed.orthonormal(rng, D, D)
    sigma = np.geomspace(4, 1, D)
    primary, harmful = (prescribed.orthonormal(rng, ROWS, D) * sigma @ basis.T for basis in (u, v))
    found = alignment(TaskPair(Task(jnp.asarray(primary)), Task(jnp.asarray(harmful))), top_k=3)
    cosines = u[:, :3].T @ v[:, :3]
    np.testing.assert_allclose(found.cosines, np.abs(cosines), atol=1e-9)
    np.testing.assert_allclose(found.score, np.abs(np.diag(cosines)).sum(), rtol=1e-9)
    angles = np.degrees(np.arccos(np.linalg.svd(cosines, compute_uv=False)))
    np.testing.assert_allclose(found.angles, angles, rtol=1e-6)


def test_nothing_but_mu_depends_on_the_units_of_the_tasks(rng):
    pair, heldout = apart(rng), apart(rng)

    def moved(pair, *powers):
        return TaskPair(
            *(
                Task(jnp.ldexp(task.x, power), jnp.ldexp(task.y, -power))
                for task, power in zip(pair, powers, strict=True)
            )
        )

    settings = {"budgets": (10.0, "keep"), "ridge": 1e-3, "horizon": 50, "primary_no_slower_at": (10,)}
    plain = diagnose(pair, heldout=heldout, **settings)
    found = diagnose(moved(pair, -700, 400), heldout=moved(heldout, -700, 400), **settings)
    assert found.verdict == plain.verdict
    assert found.reasons == plain.reasons
    np.testing.assert_array_equal(found.mu, np.inf)
    near = diagnose(moved(pair, -300, 100), **settings)
    np.testing.assert_allclose(near.mu, np.ldexp(plain.mu, 800), rtol=1e-9)
    for row, expected in zip(found.budgets, plain.budgets, strict=True):
        np.testing.assert_allclose(
            [row.train.rir, row.heldout.rir, row.harmful_left, row.slow_down],
            [expected.train.rir, expected.heldout.rir, expected.harmful_left, expected.slow_down],
            rtol=1e-9,
        )
    np.testing.assert_allclose(found.undefended, plain.undefended, rtol=1e-9)
    np.testing.assert_allclose(found.alignment.score, plain.alignment.score, rtol=1e-9)


def test_several_classes_are_diagnosed(rng):
    pair = apart(rng)
    classes = jnp.asarray(np.eye(3)[rng.integers(0, 3, ROWS)] * 2 - 1)
    diagnosis = diagnose(TaskPair(pair.primary, Task(pair.harmful.x, classes)))
    assert math.isfinite(diagnosis.protection.costly)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"budgets": (0.5,)}, "budget"),
        ({"budgets": ("all",)}, "budget"),
        ({"budgets": ()}, "budgets"),
        ({"top_k": 0}, "top_k"),
        ({"ridge": -1.0}, "ridge"),
        ({"rtol": 2.0}, "rtol"),
        ({"horizon": 0}, "horizon"),
        ({"primary_no_slower_at": (10, 0)}, "primary_no_slower_at"),
    ],
)
def test_settings_are_checked(rng, settings, named):
    with pytest.raises(InputError, match=named):
        diagnose(apart(rng), **settings)


def test_more_classes_than_rows_are_refused(rng):
    pair = apart(rng)
    with pytest.raises(InputError, match="classes"):
        diagnose(pair._replace(harmful=Task(pair.harmful.x[:5], jnp.arange(30.0).reshape(5, 6))))
