"""The closed form before its rotation: what it does in the primary's range, and outside."""

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax import InputError, Task, TaskPair
from cimm_jax.closed_form.allocation import LargestKappa, SignalAware
from cimm_jax.closed_form.ridge import choose_ridge
from cimm_jax.closed_form.solution import check_ridge, extractor, solve

D, RANK, ROWS = 6, 4, 30
ridges = pytest.mark.parametrize("ridge", [0.0, 0.1])


@pytest.fixture
def pair(rng):
    """The primary task lacks two of the six directions; the harmful one has them all."""
    primary = prescribed.features(rng, prescribed.geometric(30, RANK), (ROWS, D))
    return TaskPair(Task(jnp.asarray(primary)), Task(jnp.asarray(rng.standard_normal((ROWS, D)))))


def spectrum(x):
    """Eigenvalues of x^T x, descending, and eigenvectors in columns."""
    _, sigma, vt = np.linalg.svd(np.asarray(x))
    return np.r_[sigma**2][:D], vt.T


@ridges
def test_a_budget_of_one_whitens_symmetrically_and_the_ridge_holds_weak_directions_back(pair, ridge):
    theta = np.asarray(solve(pair, budget=1.0, ridge=ridge).theta)
    np.testing.assert_allclose(theta, theta.T, atol=1e-12)
    sigma, vectors = spectrum(pair.primary.x)
    inside = vectors[:, :RANK]
    shifted = sigma[:RANK] + ridge * sigma.sum() / D
    np.testing.assert_allclose(inside.T @ theta @ inside, np.diag(1 / np.sqrt(shifted)), atol=1e-9)


@ridges
def test_directions_that_the_primary_task_lacks_are_scaled_as_if_they_had_its_mean_energy(pair, ridge):
    sigma, vectors = spectrum(pair.primary.x)
    outside = vectors[:, RANK:]
    total = sigma[:RANK].sum()
    scale = 1 / np.sqrt(total / RANK + ridge * total / D)
    for budget in (1.0, 50.0):
        theta = np.asarray(solve(pair, budget=budget, ridge=ridge).theta)
        np.testing.assert_allclose(theta @ outside, scale * outside, atol=1e-9)
        assert np.linalg.matrix_rank(theta) == D, "what cannot be undone cannot be absorbed either"


def test_the_extractor_is_what_the_solution_was_made_of(pair):
    found = solve(pair, budget=50.0, ridge=0.1)
    assert found.ridge == 0.1
    again = extractor(found.pencil, found.allocation.scale, found.ridge)
    np.testing.assert_allclose(again, found.theta, rtol=1e-12)
    assert found.allocation.scale.max() > 1


def test_a_ridge_that_nobody_gave_is_chosen_on_held_out_rows(pair):
    chosen = choose_ridge(pair.primary.x).ridge
    assert chosen > 0
    found = solve(pair, budget=10.0, objective=LargestKappa())
    assert found.ridge == chosen
    np.testing.assert_allclose(found.theta, solve(pair, budget=10.0, ridge=float(chosen)).theta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", [LargestKappa(), SignalAware(horizon=10)])
@pytest.mark.parametrize(
    ("of_primary", "of_harmful", "of_targets"), [(-560, 400, 0), (900, -900, 600), (-900, 0, -800)]
)
def test_tasks_of_any_scale_have_the_extractor_of_the_inverse_scale(rng, objective, of_primary, of_harmful, of_targets):
    primary, harmful = (
        Task(prescribed.features(rng, prescribed.geometric(30, D), (ROWS, D)), rng.standard_normal(ROWS))
        for _ in range(2)
    )

    def moved(task, power):
        return Task(jnp.asarray(np.ldexp(task.x, power)), jnp.asarray(np.ldexp(task.y, of_targets)))

    plain = jax.jit(lambda pair: solve(pair, budget=5.0, objective=objective, ridge=0.01))
    found = plain(TaskPair(moved(primary, of_primary), moved(harmful, of_harmful)))
    expected = plain(TaskPair(primary, harmful))
    np.testing.assert_allclose(np.ldexp(found.theta, of_primary), expected.theta, rtol=1e-9, atol=1e-12)
    with np.errstate(over="ignore", under="ignore"):
        mu = np.ldexp(expected.pencil.mu, 2 * (of_harmful - of_primary))
    np.testing.assert_allclose(found.pencil.mu, mu, rtol=1e-9)
    np.testing.assert_allclose(found.allocation.scale, expected.allocation.scale, rtol=1e-9)


@pytest.mark.parametrize("ridge", [None, 0, 0.0, 1e9])
def test_a_good_ridge_passes(ridge):
    check_ridge(ridge)


@pytest.mark.parametrize("ridge", [-1e-9, float("inf"), float("nan")])
def test_a_bad_ridge_is_refused(ridge):
    with pytest.raises(InputError, match=rf"^ridge: needs a finite number of at least 0, or None, got {ridge}"):
        check_ridge(ridge)
