"""Targets of many classes: coded, centred; and the constant that centring takes away."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cimm_jax
from cimm_jax import methods
from cimm_jax.class_targets import centred, one_hot
from cimm_jax.closed_form.solution import solve
from cimm_jax.errors import InputError
from cimm_jax.tasks import Task, TaskPair, check_task


def test_codes():
    assert one_hot(np.array([2, 0]), 3).tolist() == [[-1, -1, 1], [1, -1, -1]]
    assert one_hot(np.array([1, 0]), 2).tolist() == [[1], [-1]]
    assert centred(np.array([[1.0], [0.0]])).tolist() == [[0.5], [-0.5]]
    assert centred(np.array([[1.0]]), np.array([[1.0], [0.0]])).tolist() == [[0.5]]


@pytest.mark.parametrize("labels", [[0, 1, 2, 1], np.array([0, 1, 2, 1], np.uint8), jnp.array([0, 1, 2, 1])])
def test_class_numbers_of_any_kind_are_what_a_task_is_given(labels):
    targets = cimm_jax.one_hot(labels)
    assert targets.tolist() == one_hot(np.array([0, 1, 2, 1]), 3).tolist()
    assert targets.dtype == np.float64
    check_task(Task(np.eye(4), targets), "task")
    assert cimm_jax.one_hot(np.array([True, False])).tolist() == [[1], [-1]]


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [[0, 1]], [], [0.0, 1.0], ["a", "b"], [None, 1]])
def test_labels_of_no_class_are_refused(labels):
    with pytest.raises(InputError, match="labels"):
        one_hot(np.array(labels), 3)


def test_a_number_of_classes_that_labels_cannot_have_is_refused():
    with pytest.raises(InputError, match="classes: needs at least 2, got 1"):
        one_hot(np.array([0]), 1)
    with pytest.raises(InputError, match="labels: go up to 1000000000000 in 2 rows; number the classes from 0"):
        one_hot(np.array([0, 10**12]))


def test_a_signal_aware_budget_hides_the_classes_only_if_targets_are_centred(rng):
    """With one-hot targets of -1 and +1 nearly all label energy is a constant, and the budget is spent on hiding it."""
    classes, features, rows = 40, 30, 800
    labels = np.arange(rows) % classes
    means = rng.normal(size=(classes, features)) * np.where(np.arange(features) < 12, 1.0, 0.02)
    x = means[labels] + 0.5 * rng.normal(size=(rows, features)) + np.where(np.arange(features) == 29, 5.0, 0.0)
    primary = Task(jnp.asarray(rng.normal(size=(400, features))), jnp.asarray(rng.normal(size=400)))

    @jax.jit
    def solution(pair):
        return solve(pair, budget=1e4, objective=methods.SignalAware(horizon=100), ridge=1e-6).theta

    def accuracy(targets):
        pair = TaskPair(primary, Task(jnp.asarray(x), jnp.asarray(targets)))
        mapped = np.asarray(x @ solution(pair))
        probe, step = np.zeros((features, classes)), 1 / np.linalg.norm(mapped, 2) ** 2
        y = one_hot(labels, classes)
        for _ in range(100):
            probe -= step * mapped.T @ (mapped @ probe - y)
        return np.mean((mapped @ probe).argmax(1) == labels)

    coded = one_hot(labels, classes)
    assert accuracy(centred(coded)) < 0.15
    assert accuracy(coded) > 0.5
