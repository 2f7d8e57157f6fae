from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
import scipy.linalg

from cimm_jax import InputError, Task, TaskPair
from cimm_jax.closed_form.allocation import (
    INDIFFERENCE,
    LEVELS,
    Candidates,
    LargestKappa,
    SignalAware,
    _primary_left,
    allocate,
    allowance,
    check_budget,
    label_signals,
    pareto,
)
from cimm_jax.closed_form.limits import pair_pencil
from cimm_jax.closed_form.solution import solve
from cimm_jax.numerics.convergence import excess_left

D, ROWS, COUNT, BUDGET, HORIZON = 6, 40, 12, 30.0, 30
WATCHED = (1, 5, 30)
FREE = SignalAware(HORIZON)
CONSTRAINED = SignalAware(HORIZON, primary_no_slower_at=WATCHED)

pencils = jax.jit(jax.vmap(lambda pair, ridge: pair_pencil(pair, ridge=ridge), (0, None)))
allowances = jax.jit(jax.vmap(allowance, (0, None)))


@cache
def attempt(objective, budget=BUDGET):
    """The closed form of a batch of pairs; one compilation an objective and a shape."""
    return jax.jit(
        jax.vmap(lambda pair, ridge: solve(pair, budget=budget, objective=objective, ridge=ridge), (0, None))
    )


@cache
def excess(horizons):
    return jax.jit(jax.vmap(lambda x, theta, y: excess_left(x @ theta, y, horizons)))


def left(task, theta, horizons):
    return np.asarray(excess(horizons)(task.x, theta, task.y))


def labelled_pairs(rng, classes=(), rank=D):
    """Pairs that share their range, whose labels are linear in the inputs, with noise."""
    basis = prescribed.orthonormal(rng, COUNT, D, rank)

    def task():
        inner = prescribed.matrix(rng, np.sqrt(prescribed.random_spectra(rng, COUNT, rank)), (ROWS, rank))
        x = inner @ basis.mT
        y = x @ rng.standard_normal((COUNT, D, *(classes or (1,))))
        y = y + 0.3 * y.std() * rng.standard_normal(y.shape)
        return Task(jnp.asarray(x), jnp.asarray(y if classes else y[..., 0]))

    return TaskPair(task(), task())


# --- the budget ---


def test_the_allowance_is_the_budget_where_whitening_costs_nothing(rng):
    pair = labelled_pairs(rng)
    kappa = prescribed.kappa_of(pair.primary.x) ** 2
    found = pencils(pair, 0.0)
    np.testing.assert_allclose(allowances(found, 7.0), 7, rtol=1e-9)
    np.testing.assert_allclose(jax.vmap(lambda pencil: allowance(pencil, "keep"))(found), kappa, rtol=1e-9)


def test_the_allowance_is_what_the_ridge_leaves_of_the_budget(rng):
    pair = labelled_pairs(rng)
    sigma = np.linalg.svd(pair.primary.x, compute_uv=False) ** 2
    kept = sigma / (sigma + 0.1 * sigma.mean(1, keepdims=True))
    cost = kept[:, 0] / kept[:, -1]
    found = pencils(pair, 0.1)
    np.testing.assert_allclose(allowances(found, 7.0), 7 / cost, rtol=1e-9)
    np.testing.assert_array_equal(allowances(found, 1.0), 1)


@pytest.mark.parametrize("budget", [0.99, 0, -3.0, float("inf"), float("nan"), "all", "2"])
def test_a_bad_budget_is_refused(budget):
    with pytest.raises(InputError, match=r"^budget: "):
        check_budget(budget)


@pytest.mark.parametrize("budget", [1, 1.0, 1e9, "keep"])
def test_a_good_budget_passes(budget):
    check_budget(budget)


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"horizon": 0}, "horizon"),
        ({"horizon": -5}, "horizon"),
        ({"primary_no_slower_at": (5, 0)}, "primary_no_slower_at"),
    ],
)
def test_bad_numbers_of_steps_are_refused(settings, argument):
    with pytest.raises(InputError, match=f"^{argument}: "):
        SignalAware(**settings)


def test_watched_are_the_constrained_steps_or_else_the_horizon():
    assert SignalAware(9).watched == (9,)
    assert SignalAware(9, (5, 1, 5)).watched == (1, 5)


# --- kappa alone ---


@pytest.mark.parametrize("rank", [D, 4])
def test_largest_kappa_scales_with_mu_from_one_to_the_budget(rng, rank):
    solution = attempt(LargestKappa())(labelled_pairs(rng, rank=rank), 0.0)
    scale = np.asarray(solution.allocation.scale)
    np.testing.assert_allclose(scale[:, 0], BUDGET, rtol=1e-9)
    np.testing.assert_allclose(scale[:, rank - 1 :], 1, rtol=1e-9)
    assert (np.diff(scale[:, :rank], axis=1) < 0).all()
    assert (scale >= 1).all()
    assert np.asarray(solution.allocation.feasible).all()
    assert solution.allocation.front is None


def test_a_single_mu_leaves_nothing_to_spread(rng):
    pair = labelled_pairs(rng)
    one_direction = pair.harmful.x[:, :, :1] * pair.harmful.x[:, :1, :]
    solution = attempt(LargestKappa())(pair._replace(harmful=Task(one_direction, pair.harmful.y)), 0.0)
    np.testing.assert_array_equal(solution.pencil.rank_harmful, 1)
    np.testing.assert_array_equal(solution.allocation.scale, 1)


# --- looking at the labels ---


def claimed(allocation, levels_up_to):
    """What the front says of the chosen allocation, under either order; shape (COUNT, 2)."""
    scale, front = np.asarray(allocation.scale), np.asarray(allocation.front.harmful_left)
    slow = np.asarray(allocation.front.slow_down)
    level = np.rint(np.log(scale.max(1)) / np.log(levels_up_to) * (LEVELS - 1)).astype(int)
    threshold = (scale > 1).sum(1)
    pairs = np.arange(len(scale))
    return front[pairs, :, level, threshold], slow[pairs, :, level, threshold]


def nearest(candidates, value):
    return np.take_along_axis(candidates, np.abs(candidates - value[:, None]).argmin(1)[:, None], 1)[:, 0]


@pytest.mark.parametrize("classes", [(), (3,)], ids=["one target", "three targets"])
@pytest.mark.parametrize("rank", [D, 4])
def test_the_front_claims_what_the_features_do(rng, classes, rank):
    pair = labelled_pairs(rng, classes, rank)
    undefended = np.broadcast_to(np.eye(D), (COUNT, D, D))
    cases = [(CONSTRAINED, WATCHED)] if classes else [(FREE, (HORIZON,)), (CONSTRAINED, WATCHED)]
    for objective, watched in cases:
        solution = attempt(objective)(pair, 0.0)
        harmful, slow_down = claimed(solution.allocation, BUDGET)
        simulated = left(pair.harmful, solution.theta, (HORIZON,))[:, 0]
        np.testing.assert_allclose(nearest(harmful, simulated), simulated, atol=1e-6)
        reference = left(pair.primary, undefended, watched)
        simulated = ((left(pair.primary, solution.theta, watched) + 1e-12) / (reference + 1e-12)).max(1)
        np.testing.assert_allclose(nearest(slow_down, simulated), simulated, rtol=1e-4, atol=1e-6)


def test_with_a_ridge_the_front_still_claims_what_the_harmful_features_do(rng):
    pair = labelled_pairs(rng)
    solution = attempt(FREE)(pair, 0.1)
    scale = np.asarray(solution.allocation.scale)
    up_to = np.asarray(allowances(solution.pencil, BUDGET))
    assert (scale <= up_to[:, None] * (1 + 1e-9)).all()
    simulated = left(pair.harmful, solution.theta, (HORIZON,))[:, 0]
    np.testing.assert_allclose(nearest(claimed(solution.allocation, up_to)[0], simulated), simulated, atol=1e-6)


def test_the_candidates_that_are_verified_are_simulated_with_the_ridges_coupling(rng):
    pair = labelled_pairs(rng, (3,))
    scale = jnp.asarray(rng.uniform(1, BUDGET, (COUNT, 2, D)))
    pencil = pencils(pair, 0.1)
    verify = jax.jit(jax.vmap(lambda of, pair, scale: _primary_left(label_signals(of, pair), scale, WATCHED)))
    simulated = verify(pencil, pair, scale)
    for candidate in range(2):
        theta = jax.vmap(lambda of: of.directions)(pencil) * jnp.sqrt(scale[:, candidate, None])
        np.testing.assert_allclose(simulated[:, candidate], left(pair.primary, theta, WATCHED), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("classes", [(), (3,)], ids=["one target", "three targets"])
def test_feasible_means_that_the_primary_task_is_no_slower(rng, ridge, classes):
    pair = labelled_pairs(rng, classes)
    solution = attempt(CONSTRAINED)(pair, ridge)
    feasible = np.asarray(solution.allocation.feasible)
    undefended = left(pair.primary, np.broadcast_to(np.eye(D), (COUNT, D, D)), WATCHED)
    defended = left(pair.primary, solution.theta, WATCHED)
    assert feasible.sum() > COUNT / 2
    assert (defended[feasible] <= undefended[feasible] + 1e-9).all()
    assert (np.asarray(solution.allocation.scale)[feasible] > 1).any()


def test_a_primary_task_that_is_fitted_in_one_step_stays_so(rng):
    pair = labelled_pairs(rng)
    u = prescribed.orthonormal(rng, COUNT, ROWS, D)
    rotation = prescribed.orthonormal(rng, COUNT, D, D)
    # The labels lie along one principal direction, so the undefended probe is done after a step.
    primary = Task(jnp.asarray(u * np.geomspace(3, 1, D) @ rotation), jnp.asarray(u[..., 2]))
    pair = pair._replace(primary=primary)
    for ridge in (0.0, 0.1):
        solution = attempt(CONSTRAINED)(pair, ridge)
        assert np.asarray(solution.allocation.feasible).all()
        np.testing.assert_allclose(left(primary, solution.theta, WATCHED), 0, atol=1e-9)


def two_sided_family(x_primary, y_primary, x_harmful, y_harmful):
    """Every extractor V Lambda of the two-sided order with lambda^2 in {1, BUDGET}, by NumPy and SciPy."""
    mu, v = scipy.linalg.eigh(x_harmful.T @ x_harmful, x_primary.T @ x_primary)
    harmful = (v.T @ x_harmful.T @ y_harmful) ** 2 / mu
    primary = (v.T @ x_primary.T @ y_primary) ** 2
    order = np.argsort(harmful / primary)
    for threshold in range(D + 1):
        scale = np.ones(D)
        scale[order[:threshold]] = BUDGET
        yield v * np.sqrt(scale)


def test_the_unconstrained_choice_is_as_good_as_the_two_sided_family_at_the_budget(rng):
    pair = labelled_pairs(rng)
    solution = attempt(FREE)(pair, 0.0)
    chosen = left(pair.harmful, solution.theta, (HORIZON,))[:, 0]
    arrays = [np.asarray(leaf) for leaf in (*pair.primary, *pair.harmful)]
    families = [list(two_sided_family(*case)) for case in zip(*arrays, strict=True)]
    thetas = np.stack(families, axis=1)  # (thresholds, COUNT, D, D)
    family = np.stack([left(pair.harmful, jnp.asarray(theta), (HORIZON,))[:, 0] for theta in thetas])
    assert (chosen >= family.max(0) - INDIFFERENCE - 1e-9).all()
    assert (family.max(0) > family.min(0) + 10 * INDIFFERENCE).any()
    kappa = prescribed.kappa_of(np.asarray(pair.primary.x) @ np.asarray(solution.theta)) ** 2
    assert (kappa <= BUDGET * (1 + 1e-9)).all()


def test_a_constraint_protects_no_better(rng):
    pair = labelled_pairs(rng)
    free, constrained = (
        left(pair.harmful, attempt(objective)(pair, 0.0).theta, (HORIZON,))[:, 0] for objective in (FREE, CONSTRAINED)
    )
    assert (constrained <= free + INDIFFERENCE + 1e-9).all()
    assert (constrained < free - INDIFFERENCE).any()


def test_a_batch_of_allocations_is_a_loop(rng):
    pair = labelled_pairs(rng)
    together = attempt(CONSTRAINED)(pair, 0.1)
    alone = jax.jit(lambda pencil, pair: allocate(pencil, pair, BUDGET, CONSTRAINED))
    for i in range(4):
        expected = alone(*jax.tree.map(lambda leaf, i=i: leaf[i], (together.pencil, pair)))
        np.testing.assert_allclose(together.allocation.scale[i], expected.scale, rtol=1e-9)
        np.testing.assert_array_equal(together.allocation.feasible[i], expected.feasible)
        np.testing.assert_allclose(together.allocation.front.slow_down[i], expected.front.slow_down, rtol=1e-6)


def test_labels_are_asked_for(rng):
    pair = jax.tree.map(lambda leaf: leaf[0], labelled_pairs(rng))
    bare = pair._replace(harmful=pair.harmful._replace(y=None))
    with pytest.raises(InputError, match=r"pair\.harmful\.y"):
        solve(bare, objective=SignalAware())
    assert solve(bare).theta.shape == (D, D), "LargestKappa does without"


# --- the front ---


def dominates(a, b):
    """Slow-down and harmful excess left, at least as good in both and better in one."""
    return a[0] <= b[0] and a[1] >= b[1] and a != b


def test_pareto_points_dominate_all_others_and_not_one_another(rng):
    # On a grid, so that many points are equal in one of the two or in both.
    slow, harmful = rng.integers(0, 12, (2, 2, 3, 20)) / 12
    points = set(zip(slow.ravel(), harmful.ravel(), strict=True))
    kept = list(zip(*pareto(Candidates(jnp.ones(3), jnp.asarray(harmful), jnp.asarray(slow))), strict=True))
    assert len(kept) == len(set(kept)) < len(points)
    assert set(kept) <= points
    assert not any(dominates(a, b) for a in kept for b in kept)
    assert all(any(dominates(a, b) for a in kept) for b in points - set(kept))
    assert kept == sorted(kept)


def test_pareto_of_a_real_front_holds_the_best_of_both(rng):
    front = jax.tree.map(lambda leaf: leaf[0], attempt(FREE)(labelled_pairs(rng), 0.0).allocation.front)
    assert front.harmful_left.shape == (2, LEVELS, D + 1)
    best = pareto(front)
    assert best.slow_down[0] == np.min(front.slow_down)
    assert best.harmful_left[-1] == np.max(front.harmful_left)
