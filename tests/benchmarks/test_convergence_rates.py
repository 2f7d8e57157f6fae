import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from benchmarks import convergence
from benchmarks._rates import (
    INVERSE_SMOOTHNESS,
    LINE_SEARCH,
    OPTIMAL_CONSTANT,
    RULES,
    Problem,
    asymptote,
    descend,
    halved_after,
    plain_descent,
)
from benchmarks.convergence import make_subject, measure
from cimm_jax.numerics.convergence import line_search_curve
from cimm_jax.tasks import Task

CONSTANT = (INVERSE_SMOOTHNESS, OPTIMAL_CONSTANT)


def problem(rng, kappa, size=6, scale=7.0):
    return Problem(scale * prescribed.geometric(kappa, size), rng.uniform(0.5, 2, size))


def subject(rng, kappa=300.0):
    x = prescribed.features(rng, prescribed.geometric(kappa, 5), (20, 6))
    return make_subject("some", "harmful", jnp.eye(6), Task(jnp.asarray(x), jnp.asarray(rng.standard_normal(20))))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_step_falls_short_of_its_bound(rng, rule):
    for kappa in (1.0, 1.5, 30.0, 1e4, 1e12):
        made = descend(rule, problem(rng, kappa), 200).progress(rule.measures)
        assert made.min() >= rule.bound(kappa) * (1 - 1e-9)


@pytest.mark.parametrize("rule", CONSTANT, ids=lambda rule: rule.name)
@pytest.mark.parametrize("kappa", [1.0, 1.5, 1e4, 1e12])
def test_constant_steps_end_at_their_bound(rng, rule, kappa):
    np.testing.assert_allclose(asymptote(rule, problem(rng, kappa)), rule.bound(kappa), rtol=1e-9)


def test_without_labels_on_the_slowest_direction_the_next_decides():
    found = asymptote(INVERSE_SMOOTHNESS, Problem(np.array([4.0, 1.0, 1e-6]), np.array([1.0, 1.0, 0.0])))
    np.testing.assert_allclose(found, 0.25, rtol=1e-12)


@pytest.mark.parametrize("kappa", [1.0, 1.5, 1e4, 1e12])
def test_the_worst_start_attains_the_bound_at_every_step(rng, kappa):
    made = descend(LINE_SEARCH, problem(rng, kappa).worst_start, 100).progress("loss")
    np.testing.assert_allclose(made, LINE_SEARCH.bound(kappa), rtol=1e-9)
    assert len(made) == 100 or kappa < 2


def test_the_norm_loses_at_least_one_part_in_kappa_but_less_than_the_loss_is_guaranteed_to():
    kappa = 1e4
    start = Problem(np.array([kappa, 1.0]), np.array([1.0, 1.0]))  # first error (kappa^-1/2, 1)
    lost = 1 - (1 - descend(LINE_SEARCH, start, 1).error_progress[0]) ** 2
    assert 1 / kappa <= lost < 0.8 * LINE_SEARCH.bound(kappa)
    np.testing.assert_allclose(lost, 3 / kappa, rtol=1e-3)


@pytest.mark.parametrize("rule", CONSTANT, ids=lambda rule: rule.name)
def test_powers_find_the_step_that_halves(rng, rule):
    for kappa in (1.5, 300.0):
        # Hardly any labels but on one direction, the slowest or the fastest.
        for place in (5, 0):
            some = problem(rng, kappa)._replace(energy=1e-3 + np.eye(6)[place])
            left = descend(rule, some, 300).loss_left
            assert halved_after(rule, some) == np.flatnonzero(left <= 0.5)[0] <= rule.halved_at_most(kappa)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_bound_s_steps_halve_the_worst_loss_and_no_fewer_do(rule):
    kappa = 50.0
    curvature = np.array([kappa, 1.0])
    worst = Problem(curvature, np.array([0.0, 1.0])) if rule.length else Problem(curvature, 1 / curvature)
    steps = int(rule.halved_at_most(kappa))
    left = descend(rule, worst, steps).loss_left
    assert left[-1] <= 0.5 < left[-2]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_eigenbasis_leaves_what_plain_descent_leaves(rng, rule):
    given = subject(rng)
    length = rule.length(given.problem) if rule.length else None
    losses = plain_descent(given.features, given.targets, np.zeros((6, 1)), 30, length)
    expected = 1 - (losses[0] - losses) / given.problem.energy.sum()
    np.testing.assert_allclose(descend(rule, given.problem, 30).loss_left, expected, rtol=1e-6, atol=1e-12)
    assert expected[-1] > 1e-4


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_subject_as_it_is_passes_every_check(rng, rule):
    for kappa in (2.0, 300.0, 1e8):
        row = measure(rule, subject(rng, kappa), 300)
        assert row.wrong == ()
        assert row.rank == 5
        np.testing.assert_allclose(row.kappa, kappa, rtol=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda given: {"kappa": 0.99 * given.kappa}, "what attains the bound"),
        (lambda given: {"kappa": given.kappa / 50}, "a step made"),
        (lambda given: {"features": given.features * np.linspace(1, 1.1, 6)}, "plain descent"),
        (lambda given: {"problem": given.problem._replace(energy=given.problem.energy[::-1])}, "plain descent"),
    ],
    ids=["kappa", "much smaller kappa", "features", "labels"],
)
def test_a_subject_that_is_not_what_it_says_fails(rng, rule, change, complaint):
    given = subject(rng)
    assert complaint in " ".join(measure(rule, given._replace(**change(given)), 300).wrong)


def test_labels_slower_than_promised_fail(rng):
    given = subject(rng)
    slow = given._replace(problem=given.problem._replace(energy=np.eye(5)[4]), kappa=given.kappa / 50)
    assert "half the loss took" in " ".join(measure(INVERSE_SMOOTHNESS, slow, 300).wrong)


def test_a_line_search_s_own_checks_can_fail(rng, monkeypatch):
    given = subject(rng)
    swapped = measure(LINE_SEARCH, given._replace(vectors=given.vectors[:, ::-1]), 300)
    assert ["the worst start on the features" in complaint for complaint in swapped.wrong] == [True]
    assert "Eq. 16" in " ".join(measure(LINE_SEARCH, given._replace(kappa=given.kappa / 50), 300).wrong)
    monkeypatch.setattr(convergence, "line_search_curve", lambda *some: 1.01 * line_search_curve(*some))
    assert "cimm_jax.numerics.convergence" in " ".join(measure(LINE_SEARCH, given, 300).wrong)


def test_a_rate_that_float64_features_cannot_show_is_not_judged(rng):
    assert np.isnan(measure(LINE_SEARCH, subject(rng, 1e11), 50).attained_on_features)
    assert np.isfinite(measure(LINE_SEARCH, subject(rng, 1e8), 50).attained_on_features)
