"""The eraser in closed form: what linear heads can read goes, exactly, and what is to stay stays."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
from closed_form.labelled import CLASSES, D, class_task, covariance_with, explained, heads_accuracy, labels_of, one_hot

from cimm_jax import InputError, Task, TaskPair
from cimm_jax.closed_form.erasure import Erasure, check_eraser, check_rank, check_task_to_erase, erase_labels

KEEPS = ("outputs", "covariance", "features")

solve = {keep: jax.jit(partial(erase_labels, keep=keep, ridge=1e-3)) for keep in KEEPS}


@pytest.fixture(scope="module")
def tasks():
    rng = np.random.default_rng(0)
    return class_task(rng), class_task(rng)


@pytest.fixture(scope="module")
def found(tasks):
    return {keep: Erasure(*map(np.asarray, solve[keep](*tasks))) for keep in KEEPS}


def left_of(theta, task):
    """Cov(x theta, y) relative to theta and Cov(x, y)."""
    covariance = covariance_with(task)
    return np.linalg.norm(theta.T @ covariance) / np.linalg.norm(covariance) / np.linalg.norm(theta)


@pytest.mark.parametrize("keep", KEEPS)
def test_no_linear_head_of_any_convex_loss_beats_a_constant_on_the_rows(tasks, found, keep):
    _, harmful = tasks
    labels = harmful.y.argmax(1)
    assert min(heads_accuracy(harmful.x, labels).values()) > 0.7, "there is something to erase"
    features = harmful.x @ found[keep].theta
    assert left_of(found[keep].theta, harmful) < 1e-12
    assert explained(features, harmful.y) < 1e-20
    # Classes are equally frequent, so every constant gets one row in four right; ties are broken by rounding.
    logistic = heads_accuracy(features, labels)
    assert logistic["logistic"] == pytest.approx(1 / CLASSES, abs=0.09)
    assert logistic["hinge"] <= 1 / CLASSES + 0.09
    assert int(found[keep].erased) == CLASSES - 1


@pytest.mark.parametrize("keep", KEEPS)
def test_the_loss_of_the_best_logistic_head_is_that_of_a_constant(tasks, found, keep):
    from scipy.optimize import minimize

    _, harmful = tasks
    x, y = harmful.x @ found[keep].theta, harmful.y
    x = (x - x.mean(0)) / x.std()

    def loss(w):
        logits = x @ w[: D * CLASSES].reshape(D, CLASSES) + w[D * CLASSES :]
        logits = logits - logits.max(1, keepdims=True)
        return -np.mean(np.sum(y * (logits - np.log(np.exp(logits).sum(1, keepdims=True))), 1))

    start = np.random.default_rng(1).standard_normal((D + 1) * CLASSES)
    assert minimize(loss, start, method="L-BFGS-B").fun >= np.log(CLASSES) - 1e-12


def test_the_covariance_with_the_primary_labels_is_kept(tasks, found):
    primary, _ = tasks
    covariance = covariance_with(primary)
    kept = found["covariance"].theta.T @ covariance
    np.testing.assert_allclose(kept, covariance, atol=1e-10 * np.abs(covariance).max())
    assert found["covariance"].covariance_kept
    changed = found["features"].theta.T @ covariance
    assert np.abs(changed - covariance).max() > 1e-3 * np.abs(covariance).max()


def test_where_both_tasks_have_the_same_direction_it_goes_and_is_said_not_to_be_kept(rng):
    x = rng.standard_normal((60, 3))
    z = np.sign(x[:, 0])
    same = Task(x, z)
    theta, *_, kept = map(np.asarray, erase_labels(same, same, keep="covariance", ridge=1e-3))
    assert not kept
    assert left_of(theta, same) < 1e-12
    assert np.linalg.norm(theta) < 10, "nothing is blown up"
    np.testing.assert_array_equal(np.linalg.matrix_rank(theta), 2)
    np.testing.assert_allclose(erase_labels(same, same, ridge=1e-3).primary_lost, 1, rtol=1e-9)


def test_features_change_least_of_all_maps_that_erase(tasks, found, rng):
    """In every norm: against random maps with the same kernel, on the primary rows with the ridge as noise."""
    primary, harmful = tasks
    x = primary.x - primary.x.mean(0)
    k = x.T @ x / len(x)
    k = k + 1e-3 * np.trace(k) / D * np.eye(D)
    u = np.linalg.svd(covariance_with(harmful))[0][:, : CLASSES - 1]
    outside = np.eye(D) - u @ u.T

    def change(a, norm):
        return np.trace(norm @ (np.eye(D) - a) @ k @ (np.eye(D) - a).T)

    best = found["features"].theta.T
    for _ in range(20):
        norm = prescribed.covariance(rng, prescribed.geometric(100, D))
        other = best + 0.1 * rng.standard_normal((D, D)) @ outside
        assert np.linalg.norm(other @ u) < 1e-10
        assert change(best, norm) < change(other, norm)


def test_of_labels_of_the_same_rows_it_is_leace(rng):
    """Belrose et al. (2023), Theorem 4.3: I - W^+ P_{W S} W with W = Cov(x)^{-1/2}, written out by NumPy."""
    task = class_task(rng, spread=10)
    x = task.x - task.x.mean(0)
    sigma, vectors = np.linalg.eigh(x.T @ x / len(x))
    w, back = ((vectors * sigma**power) @ vectors.T for power in (-0.5, 0.5))
    u = np.linalg.svd(w @ covariance_with(task))[0][:, : CLASSES - 1]
    expected = np.eye(D) - back @ u @ u.T @ w
    found = erase_labels(task, task, keep="features", ridge=0.0)
    np.testing.assert_allclose(found.theta.T, expected, atol=1e-9)


def test_outputs_are_what_the_best_guarded_primary_heads_look_at(tasks, found):
    """Constrained least squares by NumPy: the heads orthogonal to the harmful directions, and one constant."""
    primary, harmful = tasks
    x, y = primary.x - primary.x.mean(0), primary.y - primary.y.mean(0)
    k = x.T @ x / len(x)
    k = k + 1e-3 * np.trace(k) / D * np.eye(D)
    u = np.linalg.svd(covariance_with(harmful))[0][:, : CLASSES - 1]
    free = np.linalg.svd(u.T)[2][CLASSES - 1 :].T  # heads are combinations of these
    wanted = np.column_stack([x.T @ y / len(x), primary.x.mean(0)])
    heads = free @ np.linalg.solve(free.T @ k @ free, free.T @ wanted)
    theta = found["outputs"].theta
    assert np.linalg.matrix_rank(theta) == np.linalg.matrix_rank(heads) == CLASSES
    np.testing.assert_allclose((theta.T @ k @ theta)[:CLASSES, :CLASSES], np.eye(CLASSES), atol=1e-9)
    # The span of theta's columns is the span of these heads.
    onto = theta @ np.linalg.pinv(theta)
    np.testing.assert_allclose(onto @ heads, heads, atol=1e-8 * np.abs(heads).max())


def test_outputs_cost_the_primary_task_no_more_than_features(rng):
    primary, harmful = class_task(rng), class_task(rng)
    thetas = [np.asarray(erase_labels(primary, harmful, keep=keep, ridge=0.0).theta) for keep in KEEPS]
    shares = [explained(primary.x @ theta, primary.y) for theta in thetas]
    np.testing.assert_allclose(shares, shares[0], rtol=1e-8)
    before = explained(primary.x, primary.y)
    lost = erase_labels(primary, harmful, ridge=0.0).primary_lost
    np.testing.assert_allclose(lost, 1 - shares[0] / before, atol=1e-8)


def test_what_is_left_on_other_rows_is_the_share_of_the_directions_left_in_the_rows(rng):
    """Labels without any signal: what a map that was made from N rows leaves of their noise is what it let pass, m / N."""
    rows, features, draws = 40, 10, 300
    eraser = {keep: jax.jit(jax.vmap(partial(erase_labels, keep=keep, ridge=1e-2))) for keep in ("outputs", "features")}
    x, other, y, z, signal = (
        rng.standard_normal((draws, rows, *size)) for size in ((features,), (features,), (), (), ())
    )
    truth = rng.standard_normal((draws, features)) / features**0.5
    z = z + 0 * signal + np.einsum("nij,nj->ni", other, truth)
    for keep, most in (("outputs", 2), ("features", features - 1)):
        theta = np.asarray(eraser[keep](Task(x, y), Task(other, z)).theta)
        left = []
        for one, direction in zip(theta, truth, strict=True):
            # Inputs have covariance I, so the labels' covariance with them is `direction`, and heads span theta's columns.
            u, sigma, _ = np.linalg.svd(one)
            left.append(np.sum((u[:, sigma > 1e-9 * sigma[0]].T @ direction) ** 2))
        variance = 1 + np.mean(np.sum(truth**2, 1))
        assert np.mean(left) == pytest.approx(most / rows * variance, rel=0.5)


def test_several_tasks_go_at_once_as_columns_or_with_rows_of_their_own(rng):
    primary, one, two = (class_task(rng, features=10, classes=3) for _ in range(3))
    apart = np.asarray(erase_labels(primary, [one, two], keep="features", ridge=1e-3).theta)
    assert max(left_of(apart, one), left_of(apart, two)) < 1e-11
    assert np.linalg.matrix_rank(apart) == 10 - 4
    second = one_hot(labels_of(rng, classes=3))
    together = Task(one.x, np.column_stack([one.y, second]))
    theta = np.asarray(erase_labels(primary, together, keep="features", ridge=1e-3).theta)
    assert max(left_of(theta, one), left_of(theta, Task(one.x, second))) < 1e-11


@pytest.mark.parametrize("scale", [1e-200, 1e-20, 1e150])
def test_units_of_the_inputs_and_targets_do_not_matter(tasks, found, scale):
    primary, harmful = (Task(task.x * scale, task.y * 7) for task in tasks)
    np.testing.assert_allclose(solve["outputs"](primary, harmful).theta * scale, found["outputs"].theta, atol=1e-9)
    np.testing.assert_allclose(solve["features"](primary, harmful).theta, found["features"].theta, atol=1e-9)


def test_features_that_the_primary_task_lacks_are_erased_too(rng):
    primary, harmful = class_task(rng), class_task(rng)
    flat = Task(np.where(np.arange(D) < 3, 0, primary.x), primary.y)
    for keep in KEEPS:
        theta = np.asarray(erase_labels(flat, harmful, keep=keep, ridge=0.0).theta)
        assert np.isfinite(theta).all()
        assert explained(harmful.x @ theta, harmful.y) < 1e-12


def test_harmful_inputs_may_be_far_shorter_than_primary_ones(rng):
    primary, harmful = class_task(rng), class_task(rng)
    found = erase_labels(primary, Task(harmful.x * 1e-18, harmful.y), keep="features", ridge=1e-3)
    assert found.erased == CLASSES - 1
    np.testing.assert_allclose(found.theta, solve["features"](primary, harmful).theta, atol=1e-9)


def test_primary_labels_that_do_not_vary_leave_a_constant_alone(rng):
    primary, harmful = class_task(rng), class_task(rng)
    found = erase_labels(Task(primary.x, np.full(len(primary.x), 0.1)), harmful, ridge=1e-3)
    assert np.linalg.matrix_rank(found.theta) == 1
    assert found.primary_lost == 0


def test_labels_that_have_nothing_in_common_with_the_inputs_erase_nothing(rng):
    columns = rng.standard_normal((40, 6))
    columns = np.linalg.qr(columns - columns.mean(0))[0]
    found = erase_labels(class_task(rng, features=5), Task(columns[:, :5], columns[:, 5]), keep="features", ridge=1e-3)
    assert found.erased == 0
    np.testing.assert_allclose(found.theta, np.eye(5), atol=1e-12)


def test_signal_on_a_feature_of_tiny_scale_goes_too(rng):
    primary, harmful = class_task(rng, spread=1), class_task(rng, spread=1)
    tiny = np.r_[np.ones(D - 1), 1e-9]
    theta = np.asarray(erase_labels(primary, Task(harmful.x * tiny, harmful.y), keep="features", ridge=1e-3).theta)
    assert explained(harmful.x * tiny @ theta, harmful.y) < 1e-6


def test_vmap_is_a_loop_and_float32_is_right(tasks):
    rng = np.random.default_rng(3)
    pairs = [(class_task(rng), class_task(rng)) for _ in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
    together = jax.vmap(solve["outputs"])(*stacked)
    for number, pair in enumerate(pairs):
        np.testing.assert_allclose(together.theta[number], solve["outputs"](*pair).theta, atol=1e-9)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tasks)
    for keep in KEEPS:
        theta = solve[keep](*single).theta
        assert theta.dtype == jnp.float32
        assert left_of(np.asarray(theta, float), tasks[1]) < 1e-5
        features = tasks[1].x.astype(np.float32) @ np.asarray(theta)
        assert explained(features, tasks[1].y, rtol=1e-5) < 1e-4


def test_of_outputs_nothing_is_left_for_those_who_compute_in_more_digits(tasks):
    theta = np.asarray(solve["outputs"](*jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tasks)).theta)
    assert theta.any(0).sum() == CLASSES, (
        "three labels' heads and a constant; the other columns are zero, to the last bit"
    )
    assert explained(tasks[1].x @ theta.astype(float), tasks[1].y) < 1e-6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank: needs a whole number of at least 1, got 0; an eraser of rank 0 erases nothing"),
        ({"rank": 1.5}, "rank: needs a whole number"),
        ({"rank": True}, "rank: needs a whole number"),
        ({"loss_budget": 1.0}, "loss_budget: needs a share"),
        ({"loss_budget": -0.1}, "loss_budget: needs a share"),
        ({"loss_budget": float("nan")}, "loss_budget: needs a share"),
        ({"keep": "all"}, "keep: 'all' is unknown; choose one of outputs, covariance, features"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        check_eraser(**{"rank": None, "loss_budget": None, "keep": "outputs", **settings})


def test_a_rank_of_all_directions_or_of_more_than_the_labels_have_is_refused():
    with pytest.raises(InputError, match=r"rank: 8 of 8 directions leaves nothing; give at most 7"):
        check_rank(8, 8, 9)
    with pytest.raises(InputError, match=r"rank: 4 is more than the 3 directions of the harmful labels"):
        check_rank(4, 8, 3)
    check_rank(3, 8, 3)
    check_rank(None, 8, 0)


def test_what_nothing_can_be_made_of_is_refused(rng):
    x = jnp.asarray(rng.standard_normal((12, 2)))
    both, one = Task(x, jnp.asarray(np.arange(12) % 2 * 2.0 - 1)), Task(x, jnp.ones(12))
    three = Task(x, jnp.asarray(one_hot(np.arange(12) % 3)))
    check = partial(check_task_to_erase, rank=None, loss_budget=None, keep="outputs")
    with pytest.raises(InputError, match=r"pair\.harmful\.y: is the same in every row, of one class only"):
        check(TaskPair(both, one))
    with pytest.raises(InputError, match=r"pair\.primary\.y: is the same .* give keep='features'"):
        check(TaskPair(one, both))
    check_task_to_erase(TaskPair(one, both), None, None, "features")
    with pytest.raises(InputError, match=r"rank: the harmful labels have 2 directions and there are 2 features"):
        check(TaskPair(both, three))
    check_task_to_erase(TaskPair(both, three), 1, None, "outputs")
    check_task_to_erase(TaskPair(both, three), None, 0.1, "outputs")
