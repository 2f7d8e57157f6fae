"""Own features as tasks: classes of whole numbers or text, amounts, and held-out rows that are given or drawn."""

import numpy as np
import pytest
from data.feature_examples import WORDS, X, Y, write_csv, write_npz

from cimm_jax.data.feature_tasks import load_feature_tasks
from cimm_jax.errors import InputError

AMOUNTS = np.linspace(100.0, 300.0, 12)


def load(folder, primary=None, harmful=None, **settings):
    """Both tasks, of files that are written first."""
    paths = {
        "primary": write_npz(folder / "p.npz", **(primary or {})),
        "harmful": write_npz(folder / "h.npz", **(harmful or {})),
    }
    return load_feature_tasks(paths, **settings)


def refusal(folder, primary=None, harmful=None, **settings):
    with pytest.raises(InputError) as caught:
        load(folder, primary, harmful, **settings)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def rows_of(task):
    """Which of the rows of X are in each part."""
    return [[int(np.flatnonzero((row == X).all(1))[0]) for row in part.x] for part in (task.train, task.heldout)]


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (Y, ("0", "1", "2")),
        (Y * 7 - 7, ("-7", "0", "7")),
        (Y.astype(float), ("0", "1", "2")),
        (Y == 1, ("0", "1")),
        (WORDS, ("ant", "bee", "cat")),
        (WORDS.astype("S3"), ("ant", "bee", "cat")),
    ],
    ids=["whole", "any whole", "floats", "bool", "text", "bytes"],
)
def test_classes_are_numbered_in_order(tmp_path, y, classes):
    task = load(tmp_path, {"y": y})["primary"]
    assert task.classes == classes
    _, numbers = np.unique(y, return_inverse=True)
    for part, rows in zip((task.train, task.heldout), rows_of(task), strict=True):
        assert part.labels.dtype == np.int64
        assert part.labels.tolist() == numbers[rows].tolist()


@pytest.mark.parametrize(("share", "counts"), [(None, [1, 1, 1]), (0.5, [2, 2, 2]), (0.75, [3, 3, 3])])
def test_held_out_rows_are_drawn_of_each_class_alike_the_same_every_time(tmp_path, share, counts):
    task, again, other = (load(tmp_path, heldout_share=share, heldout_seed=seed)["harmful"] for seed in (0, 0, 1))
    assert np.bincount(task.heldout.labels).tolist() == counts
    train, heldout = rows_of(task)
    assert sorted(train + heldout) == list(range(12))
    assert rows_of(again) == [train, heldout] != rows_of(other)
    assert task.drawn


def test_held_out_rows_that_are_given_are_kept(tmp_path):
    given = {"x_heldout": X[:4], "y_heldout": Y[:4]}
    tasks = load(tmp_path, given, heldout_share=0.5)
    np.testing.assert_array_equal(tasks["primary"].train.x, X)
    np.testing.assert_array_equal(tasks["primary"].heldout.x, X[:4])
    assert (tasks["primary"].drawn, tasks["harmful"].drawn, len(tasks["harmful"].heldout.x)) == (False, True, 6)
    assert refusal(tmp_path, given, given, heldout_share=0.5).startswith("heldout_share: all files have held-out parts")
    assert not any(task.drawn for task in load(tmp_path, given, given).values())


def test_amounts_are_standardised_by_the_training_rows(tmp_path):
    given = {"y": AMOUNTS[:8], "x": X[:8], "x_heldout": X[8:], "y_heldout": AMOUNTS[8:]}
    task = load(tmp_path, given, {"y": AMOUNTS}, target="regression")["primary"]
    mean, deviation = AMOUNTS[:8].mean(), AMOUNTS[:8].std()
    np.testing.assert_allclose(task.train.labels, (AMOUNTS[:8] - mean) / deviation)
    np.testing.assert_allclose(task.heldout.labels, (AMOUNTS[8:] - mean) / deviation)
    assert task.classes == ()
    assert load(tmp_path, {"y": Y}, {"y": AMOUNTS}, target="regression")["primary"].classes == (), "if asked for"


def test_tasks_without_labels_have_rows_alone(tmp_path):
    task = load(tmp_path, {"y": None})["primary"]
    assert (task.train.labels, task.heldout.labels, task.classes) == (None, None, ())
    assert (len(task.train.x), len(task.heldout.x)) == (10, 2)
    other = load(tmp_path, {"y": None}, heldout_seed=1)["primary"]
    assert rows_of(task) != rows_of(other)


def test_files_of_two_formats_make_a_pair(tmp_path):
    paths = {"primary": write_csv(tmp_path / "p.csv"), "harmful": write_npz(tmp_path / "h.npz")}
    assert set(load_feature_tasks(paths)) == {"primary", "harmful"}


@pytest.mark.parametrize(
    ("primary", "harmful", "settings", "named"),
    [
        ({}, {"x": X[:, :2]}, {}, "harmful: {}/h.npz has 2 features and primary: {}/p.npz 3; make them equal"),
        ({"y": Y * 0}, {}, {}, "primary: {}/p.npz has labels of one class only, 0"),
        ({"y": AMOUNTS}, {}, {}, "primary: {}/p.npz has the label 118.18181818181819 in row 2, which is no class"),
        ({"y": Y * np.nan}, {}, {}, "has the label nan in row 1, which is no class"),
        ({}, {"y": np.arange(12)}, {}, "heldout_share: class 0 of the harmful task has one training row"),
        ({}, {"y": np.append(WORDS[:11], "dog")}, {}, "heldout_share: class dog of the harmful task"),
        (
            {"x_heldout": X, "y_heldout": Y + 2},
            {},
            {},
            "primary: {}/p.npz, x_heldout, has classes that the training part lacks: 3, 4",
        ),
        ({"x_heldout": X}, {}, {}, "x_heldout, has no labels and primary: {}/p.npz numeric labels"),
        ({"x_heldout": X[:, :1], "y_heldout": Y}, {}, {}, "x_heldout, has 1 features and primary: {}/p.npz 3"),
        (
            {"x_heldout": X[:2], "y_heldout": Y[:2]},
            {},
            {},
            "primary: {}/p.npz has 2 rows and 3 classes in its held-out part; give at least 3 rows",
        ),
        ({"x": X[:2], "y": None}, {}, {}, "primary: {}/p.npz has 1 rows in its training part; give at least 2 rows"),
        ({"y": WORDS}, {}, {"target": "regression"}, "has text as labels, such as 'ant'"),
        ({"y": np.append(AMOUNTS[:11], np.inf)}, {}, {"target": "regression"}, "has the label inf in row 12; leave"),
        ({"y": Y * 0}, {}, {"target": "regression"}, "has labels whose deviation is 0.0"),
        ({}, {}, {"target": "ranks"}, "target: 'ranks' is unknown; choose one of classes, regression"),
        ({}, {}, {"heldout_share": 0.0}, "heldout_share: needs a share above 0 and below 1, got 0.0"),
        ({}, {}, {"heldout_share": 1.0}, "heldout_share: needs a share above 0 and below 1, got 1.0"),
        ({}, {}, {"heldout_seed": -1}, "heldout_seed: needs a whole number from 0, got -1"),
    ],
)
def test_what_makes_no_pair_of_tasks_is_refused(tmp_path, primary, harmful, settings, named):
    assert named.replace("{}", str(tmp_path)) in refusal(tmp_path, primary, harmful, **settings)
