"""The head absorbs the map: primary outputs stay what they were."""

import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
from pairs import D, make_pair

from cimm_jax import InputError, methods
from cimm_jax.closed_form.heads import UNCHANGED, Head, absorb, primary_kept
from cimm_jax.closed_form.solution import solve


@pytest.mark.parametrize("columns", [None, 1, 5])
def test_outputs_behind_the_closed_form_are_unchanged(rng, columns):
    theta = solve(make_pair(), objective=methods.SignalAware()).theta
    head = jnp.asarray(rng.standard_normal(D if columns is None else (D, columns)))
    features = jnp.asarray(rng.standard_normal((50, D)))
    outputs = features @ theta @ absorb(theta, head)
    assert outputs.shape == (features @ head).shape
    error = np.linalg.norm(outputs - features @ head) / np.linalg.norm(features @ head)
    assert error < 1e-10


def test_an_ill_conditioned_map_within_reach_is_absorbed(rng):
    theta = prescribed.matrix(rng, prescribed.geometric(1e4, 30))
    head = rng.standard_normal((30, 3))
    residual = np.linalg.norm(theta @ np.asarray(absorb(theta, head)) - head) / np.linalg.norm(head)
    assert residual < 1e-10


def test_float32_keeps_its_dtype_and_its_own_tolerance(rng):
    theta = prescribed.matrix(rng, prescribed.geometric(100, 8)).astype(np.float32)
    head = rng.standard_normal(8).astype(np.float32)
    absorbed = absorb(theta, head)
    assert absorbed.dtype == np.float32
    assert np.linalg.norm(theta @ np.asarray(absorbed) - head) < 1e-3 * np.linalg.norm(head)


@pytest.mark.parametrize(
    ("theta", "head", "named"),
    [
        (np.ones((3, 2)), np.ones(3), "theta"),
        (np.eye(3), np.ones(2), "head"),
        (np.eye(3), np.ones((3, 1, 1)), "head"),
        (np.eye(3), np.ones(3, np.float32), "dtype"),
        (np.eye(3), 1j * np.ones(3), "real numbers"),
        (np.diag([1.0, 1.0, 0.0]), np.ones(3), "singular"),
        (np.diag([1.0, 1.0, np.nan]), np.ones(3), "^theta: has NaN"),
        (np.eye(3), np.array([1.0, np.inf, 1.0]), "^head: has NaN or infinite"),
        (1e-200 * np.eye(3), 1e200 * np.ones(3), "leaves the range"),
    ],
)
def test_what_cannot_be_absorbed_is_an_error(theta, head, named):
    with pytest.raises(InputError, match=named):
        absorb(theta, head)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_too_close_to_singular_is_an_error_not_a_wrong_head(rng, scale):
    theta = prescribed.matrix(rng, prescribed.geometric(1e15, 20))
    with pytest.raises(InputError, match="too close to singular"):
        absorb(theta, scale * rng.standard_normal(20))


def test_maps_and_heads_of_any_scale_and_of_whole_numbers_are_absorbed(rng):
    theta, head = prescribed.matrix(rng, [3.0, 2.0, 1.0]), rng.standard_normal(3)
    expected = np.linalg.solve(theta, head)
    for power in (-700, 700):
        np.testing.assert_allclose(absorb(np.ldexp(theta, power), np.ldexp(head, power)), expected, rtol=1e-12)
    np.testing.assert_array_equal(absorb([[2, 0], [0, 4]], [2, 2]), [1, 0.5])


# --- a network's head, in float32 as it is shipped ---


@pytest.fixture
def head(rng):
    return Head(rng.standard_normal((D, 3)).astype(np.float32), rng.standard_normal(3).astype(np.float32))


def test_logits_are_features_times_the_kernel_and_the_bias(rng, head):
    features = rng.standard_normal((7, D))
    logits = head.logits(features)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, features @ head.kernel.astype(float) + head.bias, rtol=1e-4, atol=1e-5)


def test_an_absorbed_head_gives_the_same_logits_behind_the_map(rng, head):
    theta = prescribed.matrix(rng, prescribed.geometric(1e3, D))
    features = rng.standard_normal((50, D))
    absorbed = head.absorbed(theta)
    assert absorbed.kernel.dtype == absorbed.bias.dtype == np.float32
    np.testing.assert_array_equal(absorbed.bias, head.bias)
    np.testing.assert_allclose(theta @ absorbed.kernel, head.kernel, rtol=1e-4, atol=1e-4)
    before, after = head.logits(features), absorbed.logits(features @ theta)
    assert primary_kept(before, after, before.argmax(1)).unchanged


def test_an_absorbed_head_is_solved_in_float64(rng, head):
    """In float32 this map is too close to singular for the head that it asks for."""
    theta = prescribed.matrix(rng, prescribed.geometric(1e6, D))
    with pytest.raises(InputError, match="too close to singular"):
        absorb(theta.astype(np.float32), head.kernel)
    head.absorbed(theta)
    with pytest.raises(InputError, match="invertible"):
        head.absorbed(theta[:, :2])


def test_what_the_primary_task_lost():
    before = np.array([[3.0, 4.0], [0.0, 5.0], [1.0, 0.0], [2.0, 0.0]], np.float32)
    after = before.copy()
    after[1] = [5.5, 5.0]
    found = primary_kept(before, after, np.array([1, 1, 0, 1]))
    assert found.accuracy_before == 0.75
    assert found.accuracy_after == 0.5
    assert found.largest_change == pytest.approx(1.1)
    assert not found.unchanged


@pytest.mark.parametrize(("change", "unchanged"), [(0.5 * UNCHANGED, True), (2 * UNCHANGED, False)])
def test_logits_that_move_less_than_rounding_does_are_unchanged(change, unchanged):
    before = np.array([[3.0, 4.0], [30.0, 40.0]])
    after = before + np.array([[5 * change, 0.0], [0.0, 0.0]])
    assert primary_kept(before, after, np.zeros(2, int)).unchanged == unchanged


def test_logits_of_zero_are_no_division_by_zero():
    zero = np.zeros((2, 3), np.float32)
    assert primary_kept(zero, zero, np.zeros(2, int)).largest_change == 0
