"""The eraser as a method: what it is given, what it refuses, what an attacker of the catalogue gets."""

import jax
import numpy as np
import pytest
from closed_form.labelled import class_task, explained, one_hot

from cimm_jax import InputError, Task, TaskPair, immunize, join_tasks, methods, stack_pairs
from cimm_jax.attacks import behind, normal_equations
from cimm_jax.closed_form.erasure import erase_labels
from cimm_jax.tasks import SplitPair, SplitTask


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return TaskPair(class_task(rng), class_task(rng))


@pytest.mark.parametrize("settings", [{}, {"keep": "features"}, {"rank": 1, "loss_budget": 0.2, "ridge": 0.1}])
def test_it_is_the_closed_form_with_these_settings(pair, settings):
    theta = immunize(methods.erase(**settings), pair).theta
    np.testing.assert_allclose(theta, erase_labels(*pair, **settings).theta, atol=1e-9)
    assert explained(pair.harmful.x @ np.asarray(theta), pair.harmful.y) < (1e-12 if "rank" not in settings else 0.9)


def test_the_normal_equations_find_nothing_where_they_found_all(pair):
    theta = immunize(methods.erase(), pair).theta
    harmful = pair.harmful._replace(y=2 * pair.harmful.y - 1)
    for map_, low, high in ((np.eye(len(theta)), 0.7, 1), (np.asarray(theta), 0, 0.35)):
        target = behind(map_, SplitTask(harmful, harmful))
        trace = jax.jit(normal_equations(steps=1))(jax.random.key(0), target, 1.0)
        assert low <= float(trace.accuracy[-1]) <= high


def test_labels_of_one_class_are_refused_before_anything_is_traced(pair, monkeypatch):
    one = pair._replace(harmful=pair.harmful._replace(y=np.ones(len(pair.harmful.x))))
    method = methods.erase()
    monkeypatch.setattr("cimm_jax.methods.run._start", lambda *_: pytest.fail("traced"))
    with pytest.raises(InputError, match=r"^pair\.harmful\.y: is the same in every row, of one class only"):
        immunize(method, one)
    with pytest.raises(InputError, match=r"^rank: 8 of 8 directions leaves nothing"):
        immunize(methods.erase(rank=8), pair)
    with pytest.raises(InputError, match=r"^pair\.harmful\.y: is None"):
        immunize(method, pair._replace(harmful=Task(pair.harmful.x)))
    stacked = stack_pairs([pair, one._replace(harmful=one.harmful._replace(y=one.harmful.y[:, None] * np.ones(4)))])
    with pytest.raises(InputError, match="of one class only"):
        methods.sweep({"erase": method}, SplitPair(stacked, stacked), keys=jax.random.split(jax.random.key(0), 1))


def test_settings_are_checked_when_it_is_made():
    for bad, message in (({"rank": 0}, "^rank"), ({"loss_budget": 2.0}, "^loss_budget"), ({"ridge": -1.0}, "^ridge")):
        with pytest.raises(InputError, match=message):
            methods.erase(**bad)
    with pytest.raises(InputError, match=r"^keep: 'much' is"):
        methods.erase(keep="much")


def test_tasks_that_need_the_same_directions_leave_nothing(rng):
    x = rng.standard_normal((40, 4))
    x = np.linalg.qr(x - x.mean(0))[0]  # no mean, so that no constant is left either
    same = Task(x, one_hot((x[:, 0] > 0).astype(int)))
    with pytest.raises(InputError, match=r"^pair: theta is zero, since both tasks need the same directions"):
        immunize(methods.erase(ridge=0.0), TaskPair(same, same))


def test_of_joined_tasks_it_is_the_eraser_of_the_list(pair):
    rng = np.random.default_rng(1)
    several = [class_task(rng, classes=3), class_task(rng, classes=2)]
    theta = np.asarray(immunize(methods.erase(keep="features"), pair._replace(harmful=join_tasks(several))).theta)
    expected = erase_labels(pair.primary, several, keep="features")
    np.testing.assert_allclose(theta, expected.theta, atol=1e-8)
    assert int(expected.erased) == 3
    for task in several:
        assert explained(task.x, task.y) > 0.3
        assert explained(task.x @ theta, task.y) < 1e-12
