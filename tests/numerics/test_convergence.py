import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax import InputError, Task
from cimm_jax.attacks import behind
from cimm_jax.numerics.convergence import (
    ProbeProblem,
    check_horizons,
    excess_curve,
    excess_left,
    line_search_left,
    probe_problem,
)
from cimm_jax.numerics.spectra import product_amplification
from cimm_jax.tasks import SplitTask

HORIZONS = (1, 2, 5, 20, 60)


def descend(features, targets, horizons):
    """Gradient descent with exact line search from a zero probe; the share of the excess loss above lstsq's."""
    targets = targets.reshape(len(targets), -1)

    def loss(probe):
        return ((features @ probe - targets) ** 2).sum() / 2

    least = loss(np.linalg.lstsq(features, targets)[0])
    probe = np.zeros((features.shape[1], targets.shape[1]))
    start, left = loss(probe) - least, []
    for step in range(1, horizons[-1] + 1):
        gradient = features.T @ (features @ probe - targets)
        probe = probe - (gradient**2).sum() / ((features @ gradient) ** 2).sum() * gradient
        if step in horizons:
            left.append((loss(probe) - least) / start)
    return np.array(left)


@pytest.mark.parametrize("shape", [(30, 6), (6, 6), (5, 12)], ids=str)
@pytest.mark.parametrize("targets", [(), (3,)], ids=["one target", "three targets"])
def test_the_recurrence_is_gradient_descent_with_exact_line_search(rng, shape, targets):
    for kappa in (3, 300):
        features = prescribed.features(rng, prescribed.geometric(kappa, min(shape)), shape)
        y = rng.standard_normal((shape[0], *targets))
        expected = descend(features, y, HORIZONS)
        np.testing.assert_allclose(excess_left(features, y, HORIZONS), expected, rtol=1e-6, atol=1e-13)
    assert expected[-1] > 1e-6  # the last problem was not finished, so every horizon compared something


def test_directions_that_the_features_lack_do_not_count(rng):
    sigma = np.r_[1.0, 0.5, 0.1, 0, 0]
    features, y = prescribed.features(rng, sigma, (20, 5)), rng.standard_normal(20)
    np.testing.assert_allclose(
        excess_left(features, y, HORIZONS), descend(features, y, HORIZONS), rtol=1e-6, atol=1e-13
    )
    problem = probe_problem(jnp.asarray(features), jnp.asarray(y))
    np.testing.assert_array_equal(np.asarray(problem.curvature)[3:], 0)
    np.testing.assert_array_equal(np.asarray(problem.energy)[3:], 0)


def test_rounding_errors_that_a_map_blows_up_are_no_features(rng):
    """x lacks directions; theta makes them as prominent as the others, and what it finds there is rounding."""
    x = prescribed.features(rng, np.r_[1.0, 0.3, 0.1, 0, 0], (20, 5))
    right = np.linalg.svd(x)[2].T
    theta = right * np.r_[1, 1, 1, 1e4, 1e4]
    features, y = x @ theta, rng.standard_normal(20)
    amplification = product_amplification(*map(jnp.asarray, (x, theta, features)))
    expected = excess_left(x @ right, y, HORIZONS)
    assert abs(excess_left(features, y, HORIZONS) - expected).max() > 1e-3, "else there is nothing to be seen"
    np.testing.assert_allclose(excess_left(features, y, HORIZONS, amplification), expected, rtol=1e-6)
    heldout = Task(rng.standard_normal((6, 5)), rng.standard_normal(6))
    sigma = behind(theta, SplitTask(Task(x, y), heldout)).decomposed().sigma
    np.testing.assert_array_equal(sigma > 0, [True, True, True, False, False])


def test_units_do_not_matter(rng):
    features = prescribed.features(rng, prescribed.geometric(100, 5), (20, 5))
    y = rng.standard_normal(20)
    expected = excess_left(features, y, HORIZONS)
    np.testing.assert_allclose(excess_left(1e3 * features, y, HORIZONS), expected, rtol=1e-9)
    np.testing.assert_allclose(excess_left(features, 1e3 * y, HORIZONS), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("dtype", "of_features", "of_targets"),
    [
        (np.float64, 1e-160, 1.0),
        (np.float64, 1e-300, 1e300),
        (np.float64, 1e300, 1e-300),
        (np.float32, 1e19, 1.0),
        (np.float32, 1e-25, 1e25),
        (np.float32, 1e25, 1e-25),
    ],
)
def test_units_do_not_matter_at_the_ends_of_the_range(rng, dtype, of_features, of_targets):
    features = prescribed.features(rng, prescribed.geometric(100, 5), (20, 5))
    y = rng.standard_normal(20)
    expected = excess_left(features, y, HORIZONS)
    found = excess_left((of_features * features).astype(dtype), (of_targets * y).astype(dtype), HORIZONS)
    np.testing.assert_allclose(found, expected, rtol=1e-9 if dtype is np.float64 else 1e-2)
    curve = excess_curve((of_features * features).astype(dtype), (of_targets * y).astype(dtype), 5)
    np.testing.assert_allclose(
        np.asarray(curve)[[0, 1, 2, 5]], [1, *expected[:3]], rtol=1e-9 if dtype is np.float64 else 1e-2
    )


def test_nan_stays_nan_where_it_cannot_be_refused():
    bad, good, y = np.array([[np.nan, 1.0], [1.0, 2.0]]), np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([1.0, 2.0])
    left = jax.jit(lambda features, targets: excess_left(features, targets, (1, 2)))
    np.testing.assert_array_equal(left(bad, y), np.nan)
    np.testing.assert_array_equal(left(good, np.array([np.nan, 1.0])), np.nan)
    assert np.isfinite(left(good, y)).all()
    with pytest.raises(InputError, match=r"^features: has NaN"):
        excess_left(bad, y, (1, 2))
    with pytest.raises(InputError, match=r"^targets: has NaN"):
        excess_curve(good, np.array([np.nan, 1.0]), 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: excess_left(np.ones((3, 2)), np.ones(2), (1,)), r"^targets: need shape \(N,\) or \(N, C\)"),
        (lambda: excess_left(np.ones((3, 2)), np.ones((3, 0)), (1,)), r"^targets: need shape"),
        (lambda: excess_left(np.ones((2, 3, 2)), np.ones(2), (1,)), r"^targets: need shape"),
        (
            lambda: excess_left(np.eye(2), np.ones(2), (5, 1)),
            r"^horizons: need to ascend without repeats, got \(5, 1\)",
        ),
        (lambda: excess_left(np.eye(2), np.ones(2), (0,)), r"^horizons: needs numbers of steps of at least 1"),
        (lambda: excess_curve(np.eye(2), np.ones(2), -1), r"^steps: needs at least 0, got -1"),
    ],
)
def test_what_cannot_be_simulated_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_no_label_energy_leaves_nothing():
    problem = ProbeProblem(jnp.array([2.0, 1.0]), jnp.zeros(2))
    np.testing.assert_array_equal(line_search_left(problem, HORIZONS), 0)
    nothing = ProbeProblem(jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_array_equal(line_search_left(nothing, HORIZONS), 0)


def test_zero_targets_leave_nothing(rng):
    np.testing.assert_array_equal(excess_left(rng.standard_normal((9, 3)), np.zeros((9, 2)), HORIZONS), 0)


def test_one_direction_is_done_in_one_step(rng):
    features = np.outer(rng.standard_normal(9), rng.standard_normal(4))
    np.testing.assert_allclose(excess_left(features, rng.standard_normal(9), HORIZONS), 0, atol=1e-25)


def test_labels_on_one_direction_of_many_are_done_in_one_step():
    problem = ProbeProblem(jnp.array([5.0, 2.0, 1e-3]), jnp.array([0.0, 0.0, 3.0]))
    np.testing.assert_allclose(line_search_left(problem, HORIZONS), 0, atol=1e-25)


def test_equal_curvatures_are_done_in_one_step(rng):
    features = 7 * prescribed.orthonormal(rng, 12, 4)
    np.testing.assert_allclose(excess_left(features, rng.standard_normal((12, 3)), HORIZONS), 0, atol=1e-25)


def test_the_first_step_is_its_closed_form():
    # Curvatures 3 and 1 with equal energies: alpha = (3 + 1) / (9 + 1), residuals -1/5 and 3/5.
    problem = ProbeProblem(jnp.array([3.0, 1.0]), jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(line_search_left(problem, (1,)), [0.2], rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e25])
def test_float32_stays_finite_with_widely_spread_curvatures(scale):
    curvature = jnp.asarray(scale * np.geomspace(1, 1e-12, 12), jnp.float32)
    problem = ProbeProblem(curvature, jnp.asarray(scale * np.ones(12), jnp.float32))
    left = np.asarray(line_search_left(problem, (1, 10, 300)))
    assert left.dtype == np.float32
    assert np.isfinite(left).all()
    assert (left >= 0).all()
    assert (np.diff(left, prepend=1) <= 0).all()
    assert left[-1] > 0.1


def test_a_batch_is_a_loop(rng):
    batch = ProbeProblem(*(jnp.asarray(np.exp(rng.normal(0, 2, (3, 4, 5)))) for _ in range(2)))
    together = line_search_left(batch, HORIZONS)
    mapped = jax.vmap(lambda problem: line_search_left(problem, HORIZONS))(batch)
    alone = jax.jit(lambda problem: line_search_left(problem, HORIZONS))
    for i in np.ndindex(3, 4):
        expected = alone(ProbeProblem(batch.curvature[i], batch.energy[i]))
        np.testing.assert_allclose(together[i], expected, rtol=1e-8, atol=1e-20)
        np.testing.assert_allclose(mapped[i], expected, rtol=1e-8, atol=1e-20)


def test_horizons_are_sorted_without_repeats():
    assert check_horizons((30, 1, 30, 2), "steps") == (1, 2, 30)
    assert check_horizons((), "steps") == ()


@pytest.mark.parametrize("horizons", [(0,), (5, -1)])
def test_a_horizon_below_one_is_refused(horizons):
    with pytest.raises(InputError, match=rf"^steps: .*got {min(horizons)}"):
        check_horizons(horizons, "steps")
