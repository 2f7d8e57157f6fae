"""`Immunizer`: scikit-learn's own checks, and that its map is the command's."""

import pickle
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from cimm_jax import Immunizer, immunize, methods
from cimm_jax.commands.immunize import Made
from cimm_jax.front import estimator
from cimm_jax.runs.defence import MapDefence
from cimm_jax.tasks import Task, TaskPair

pytestmark = pytest.mark.usefixtures("standard_promotion")

ROWS, D = 30, 3
QUICK = {"ridge": 1e-3, "budget": 10}


class OfOneTask(Immunizer):
    """The checks call fit(X, y) and know of no second task, so that it is the first one again."""

    def fit(self, X, y=None):  # noqa: N803
        return super().fit(X, y, X_harmful=X, y_harmful=y)


def whitening(prepared, checkpoint):
    """A map that needs no compilation for each of the checks' many shapes; they ask what the transformer does with it."""
    assert checkpoint == Path()
    x = np.asarray(prepared.subject.pairs()["train"].primary.x)
    values, vectors = np.linalg.eigh(x.T @ x / len(x) + 1e-3 * np.eye(x.shape[1]))
    return Made(MapDefence("whitening", vectors / np.sqrt(values)), None, None)


@parametrize_with_checks([OfOneTask()])
def test_scikit_learn_s_checks(estimator, check, monkeypatch):
    monkeypatch.setattr("cimm_jax.front.estimator.defend", whitening)
    check(estimator)


@pytest.fixture(scope="module")
def tasks():
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % 3
    x = [rng.normal(size=(ROWS, D)) * [1, 2, 4] + rng.normal(size=(3, D))[labels] for _ in range(2)]
    return x[0], labels, x[1], np.asarray(["ant", "bee", "cat"])[labels]


@pytest.fixture(scope="module")
def fitted(tasks):
    x, y, x_harmful, y_harmful = tasks
    with jax.enable_x64(False):
        return Immunizer(settings=QUICK, random_state=3).fit(x, y, X_harmful=x_harmful, y_harmful=y_harmful)


def test_the_map_is_that_of_the_method_on_all_rows_in_float64(tasks, fitted):
    pair = TaskPair(Task(tasks[0]), Task(tasks[2]))
    expected = immunize(methods.pencil(ridge=1e-3, budget=10.0), pair, key=jax.random.key(3)).theta
    assert fitted.theta_.dtype == np.float64
    np.testing.assert_allclose(fitted.theta_, expected, rtol=1e-9)
    np.testing.assert_array_equal(fitted.transform(tasks[2]), tasks[2] @ fitted.theta_)
    single = fitted.transform(tasks[2].astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, tasks[2] @ fitted.theta_, rtol=1e-3, atol=1e-3)


def test_it_is_pickled_without_the_rows_and_cloned_without_the_map(tasks, fitted):
    content = pickle.dumps(fitted)
    assert len(content) < tasks[0].nbytes
    np.testing.assert_array_equal(pickle.loads(content).transform(tasks[0]), fitted.transform(tasks[0]))
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "theta_")


def test_in_a_pipeline_and_a_table(tasks):
    x, y, x_harmful, y_harmful = tasks
    names = ["a", "b", "c"]
    table, other = (pd.DataFrame(of, columns=names) for of in (x, x_harmful))
    pipeline = make_pipeline(Immunizer(settings=QUICK), LogisticRegression())
    pipeline.fit(table, y, immunizer__X_harmful=other, immunizer__y_harmful=y_harmful)
    assert pipeline.score(table, y) > 0.5
    assert pipeline[0].feature_names_in_.tolist() == names
    assert pipeline[0].get_feature_names_out().tolist() == ["immunizer0", "immunizer1", "immunizer2"]
    with pytest.raises(ValueError, match="feature names"):
        pipeline[0].transform(table[["b", "a", "c"]])


@pytest.mark.parametrize(
    ("changed", "settings", "told"),
    [
        ({"X_harmful": None}, {}, "^X_harmful: none given"),
        ({"X_harmful": np.ones((ROWS, 2))}, {}, "X has 2 features, but Immunizer is expecting 3"),
        ({"X_harmful": np.full((ROWS, D), np.nan)}, {}, "contains NaN"),
        ({"y_harmful": np.zeros(3)}, {}, "inconsistent numbers of samples"),
        ({"y_harmful": np.zeros(ROWS)}, {}, "X_harmful has labels of one class only"),
        ({"y_harmful": np.linspace(0, 1, ROWS)}, {}, "which is no class"),
        ({"y": None}, {"method": "algorithm1"}, "^primary: .* has no labels, and the method trains on them"),
        ({}, {"method": "nonsense"}, "^method: 'nonsense' is unknown"),
        ({}, {"settings": {"rigde": 1}}, "^rigde: is no setting; did you mean ridge"),
        ({}, {"settings": {"train_from": "stem"}}, "^train_from: is a setting of trained blocks"),
        ({}, {"random_state": "x"}, "^seed: cannot be 'x'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(tasks, monkeypatch, changed, settings, told):
    monkeypatch.setattr(estimator, "defend", lambda *_: pytest.fail("something was computed"))
    given = dict(zip(("X", "y", "X_harmful", "y_harmful"), tasks, strict=True)) | changed
    with pytest.raises(ValueError, match=told):
        Immunizer(**settings).fit(**given)
