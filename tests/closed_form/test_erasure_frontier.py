"""The frontier against brute force: no subspace erases more of the harmful signal at the same cost."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
from closed_form.labelled import class_task, explained

from cimm_jax import InputError, Task
from cimm_jax.closed_form.erasure import erase_labels
from cimm_jax.closed_form.erasure_frontier import check_loss_budget, frontier, within_budget
from cimm_jax.closed_form.label_directions import find_directions

PRICES = np.array([0.0, 0.3, 1.0, 3.0, 30.0])


@pytest.fixture(scope="module")
def found():
    """In three dimensions, with two harmful and two primary label directions."""
    rng = np.random.default_rng(0)
    primary, harmful = (class_task(rng, spread=30, rows=90, features=3, classes=3) for _ in range(2))
    return jax.jit(partial(find_directions, ridge=1e-3))(primary, harmful)


@pytest.fixture(scope="module")
def walked(found):
    return jax.tree.map(np.asarray, jax.jit(frontier)(found, PRICES))


def shares(found, subspaces):
    """Of the harmful and the primary signal in subspaces (n, 3, k) of orthonormal columns."""
    for signal in (np.asarray(found.harmful), np.asarray(found.primary)):
        yield np.sum((subspaces.mT @ signal) ** 2, axis=(1, 2)) / np.sum(signal**2)


def subspaces(rng, k, count=200_000):
    if k == 1:
        directions = rng.standard_normal((count, 3))
        return (directions / np.linalg.norm(directions, axis=1, keepdims=True))[..., None]
    return np.linalg.qr(rng.standard_normal((count // 4, 3, k)))[0]


@pytest.mark.parametrize("k", [1, 2])
def test_no_subspace_takes_more_at_the_same_cost_and_some_come_close(found, walked, rng, k):
    others = [shares(found, subspaces(rng, size)) for size in range(1, k + 1)]
    taken, lost = (np.concatenate([[0], *share]) for share in zip(*others, strict=True))
    for row in range(len(PRICES)):
        cost, left = walked.primary_lost[row, k], walked.harmful_left[row, k]
        assert left <= 1 - taken[lost <= cost + 1e-12].max() + 1e-12
        assert left >= 1 - taken[lost <= cost + 0.01].max() - 0.01, "brute force comes close"


def test_a_dearer_primary_signal_loses_less_and_leaves_more(walked):
    assert (np.diff(walked.primary_lost, axis=0) <= 1e-12).all()
    assert (np.diff(walked.harmful_left, axis=0) >= -1e-12).all()
    assert (walked.primary_lost[:, 0] == 0).all()
    assert (walked.harmful_left[:, 0] == 1).all()
    assert walked.harmful_left[0, 2] < 1e-12, "two directions are all that three classes have"
    assert np.ptp(walked.primary_lost[:, 2]) > 0.01, "the prices make a difference"


def test_the_explained_share_left_is_what_attackers_measure(rng):
    primary, harmful = (class_task(rng, spread=30, rows=90, features=4, classes=3) for _ in range(2))
    directions = find_directions(primary, harmful, ridge=1e-3)
    walked = frontier(directions, jnp.asarray([0.0]))
    before = explained(harmful.x, harmful.y)
    for k in (1, 2):
        theta = erase_labels(primary, harmful, rank=k, keep="features", ridge=1e-3).theta
        left = explained(harmful.x @ np.asarray(theta), harmful.y) / before
        np.testing.assert_allclose(walked.explained_left[0, k], left, atol=1e-9)


def test_with_one_covariance_both_signals_are_those_of_the_best_heads(rng):
    """Two label sets of the same rows: what the frontier says is what least squares measures, on both sides."""
    task = class_task(rng, spread=30, rows=90, features=4, classes=3)
    other = Task(task.x, rng.standard_normal(90) + task.x[:, 0])
    walked = frontier(find_directions(other, task, ridge=0.0), jnp.asarray([1.0]))
    np.testing.assert_allclose(walked.explained_left, walked.harmful_left, atol=1e-7)
    found = find_directions(other, task, ridge=0.0)
    np.testing.assert_allclose(np.sum(np.square(found.primary)), explained(other.x, other.y[:, None]), rtol=1e-7)
    np.testing.assert_allclose(np.sum(np.square(found.harmful)), explained(task.x, task.y), rtol=1e-7)


@pytest.mark.parametrize("loss_budget", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("rank", [None, 1])
def test_a_budget_is_kept_and_spent_as_well_as_can_be(found, rng, rank, loss_budget):
    gone = np.asarray(within_budget(found, rank=rank, loss_budget=loss_budget))
    taken, lost = (share[0] for share in shares(found, gone[None]))
    assert lost <= loss_budget + 1e-12
    best = 0.0
    for k in (1, 2)[:rank]:
        others, costs = shares(found, subspaces(rng, k))
        best = max(best, others[costs <= lost].max(initial=0))
    assert taken >= best - 1e-9
    norms = np.linalg.norm(gone, axis=0)
    np.testing.assert_allclose(gone.T @ gone, np.diag(norms > 0.5), atol=1e-12)
    assert (norms > 0.5).sum() <= (rank or 2)


def test_a_budget_that_does_not_bind_changes_nothing(found):
    all_gone = within_budget(found)
    assert all_gone is found.basis
    np.testing.assert_array_equal(within_budget(found, loss_budget=0.999), all_gone)
    np.testing.assert_allclose(
        within_budget(found, rank=1, loss_budget=0.999), within_budget(found, rank=1), atol=1e-12
    )


def test_without_a_budget_to_spend_only_what_costs_nothing_goes(rng):
    """Four features: two carry primary labels, the harmful ones lie on one of these and on one of the others."""
    x = prescribed.orthonormal(rng, 64, 5)[:, :5] * 8
    x = x - x.mean(0)
    x = np.linalg.qr(x)[0] * 8
    primary = Task(x[:, :4], x[:, :2])
    harmful = Task(x[:, :4], x[:, 1:3])
    found = find_directions(primary, harmful, ridge=0.0)
    gone = np.asarray(within_budget(found, loss_budget=0.0))
    np.testing.assert_allclose(gone @ gone.T, np.diag([0, 0, 1, 0]), atol=1e-9)
    gone = np.asarray(within_budget(found))
    np.testing.assert_allclose(gone @ gone.T, np.diag([0, 1, 1, 0]), atol=1e-9)
    lost = erase_labels(primary, harmful, ridge=0.0).primary_lost
    np.testing.assert_allclose(lost, 0.5, rtol=1e-9)


def test_a_loss_budget_is_a_share():
    for good in (None, 0, 0.5):
        check_loss_budget(good)
    with pytest.raises(InputError, match=r"loss_budget: .* got 2; 0.02 allows 2 %"):
        check_loss_budget(2)
