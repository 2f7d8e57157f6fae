"""Lists of harmful tasks: what a list is, what is removed of a task that is in it or not, and the sentence that says so."""

import numpy as np
import pytest
from small_images import write_cifar

from cimm_jax import methods
from cimm_jax.attacks import UNDEFENDED
from cimm_jax.closed_form.heads import Head
from cimm_jax.errors import InputError
from cimm_jax.networks.features import Labelled
from cimm_jax.tasks import Task, join_tasks
from experiments import behind_maps, many_harmful
from experiments.behind_maps import centred_task
from experiments.common import CIFAR
from experiments.many_harmful import KEPT, MAPS, Blocked, Scene, alone_and_together, lists_of, tabulated, verdict

D = 12
TASKS = ("a", "b")


def labelled(rng, axis, rows):
    """Two classes apart along an axis of their own."""
    labels = np.arange(rows) % 2
    x = 0.3 * rng.standard_normal((rows, D)) + 1
    x[:, axis] += 2.0 * labels
    return Labelled(x, labels)


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    blocked = {name: Blocked(labelled(rng, axis, 120), labelled(rng, axis, 100), 2) for axis, name in enumerate(TASKS)}
    head = Head(np.eye(D, 2, -D + 2, dtype=np.float32), np.zeros(2, np.float32))
    return Scene(labelled(rng, D - 1, 100), labelled(rng, D - 1, 100), head, blocked)


def test_a_map_takes_what_is_listed_and_leaves_what_is_not_where_all_else_is_kept(scene, monkeypatch):
    monkeypatch.setattr(many_harmful, "MAPS", {KEPT: MAPS[KEPT]})
    monkeypatch.setattr(many_harmful, "FEW", 30)
    monkeypatch.setattr(behind_maps, "HEADS", {"linear": ("ridge regression",)})
    record = many_harmful.one_seed(scene, 60, 0)
    assert set(record["accuracy"]["a"]) == {UNDEFENDED, f"{KEPT}: a", f"{KEPT}: b", f"{KEPT}: a + b"}
    for listed, unlisted in (("a", "b"), ("b", "a")):
        assert many_harmful.removed(record, listed, f"{KEPT}: {listed}", "linear") > 0.6
        assert many_harmful.removed(record, listed, f"{KEPT}: a + b", "linear") > 0.6
        assert many_harmful.removed(record, unlisted, f"{KEPT}: {listed}", "linear") < 0.1
    assert record["guessing"] == {"a": 0.5, "b": 0.5}
    small = scene._replace(blocked={"a": scene.blocked["a"]._replace(classes=3)})
    with pytest.raises(InputError, match=r"^tasks: a has attackers' images of 2 of 3 classes"):
        many_harmful.one_seed(small, 60, 0)


def test_those_listed_have_the_sums_of_the_joined_list_at_the_shape_of_all(rng):
    tasks = {name: centred_task(rng.standard_normal((9 + n, 4)), np.arange(9 + n) % 3) for n, name in enumerate("abc")}
    everything = join_tasks(list(tasks.values()))
    found = many_harmful.those_listed(everything, tasks, ("a", "c"))
    expected = join_tasks([tasks["a"], tasks["c"]])
    assert [of.shape for of in found] == [of.shape for of in everything]

    def sums(task: Task) -> list[np.ndarray]:
        return [task.x.T @ task.x, task.x.T @ task.y]

    for one, other, columns in zip(sums(found), sums(expected), (np.arange(4), np.r_[:3, 6:9]), strict=True):
        assert np.linalg.norm(one[:, columns]) == pytest.approx(np.linalg.norm(one))
        np.testing.assert_allclose(one[:, columns] / np.linalg.norm(one), other / np.linalg.norm(other), atol=1e-12)


def test_lists_are_all_of_them():
    assert lists_of("abc") == [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]


def record(seed):
    """Undefended 0.9, guessing 0.5: a map leaves 0.5 of what it lists and 0.7 of what it does not, and costs a point a task."""
    made = {f"{name}: {' + '.join(chosen)}": chosen for name in MAPS for chosen in lists_of(TASKS)}

    def both(accuracy):
        return {"linear": accuracy, "nonlinear": accuracy + 0.1}

    return {
        "seed": seed,
        "accuracy": {
            task: {
                UNDEFENDED: both(0.9),
                **{name: both(0.5 if task in chosen else 0.7) for name, chosen in made.items()},
            }
            for task in TASKS
        },
        "guessing": dict.fromkeys(TASKS, 0.5),
        "primary": {UNDEFENDED: 0.92, **{name: 0.92 - 0.01 * len(chosen) for name, chosen in made.items()}},
    }


def test_the_table_and_the_sentence_tell_listed_from_unlisted():
    records = [record(seed) for seed in range(3)]
    by_size, by_task = tabulated(records), alone_and_together(records)
    first = next(row for row in by_size if (row["map"], row["size"]) == ("erase", 1))
    np.testing.assert_allclose(first["listed"]["linear"], 1)
    np.testing.assert_allclose(first["unlisted"]["linear"], 0.5)
    np.testing.assert_allclose(first["listed"]["nonlinear"], 0.8)
    np.testing.assert_allclose(first["cost"], 0.01)
    last = next(row for row in by_size if (row["map"], row["size"]) == ("erase", 2))
    assert last["unlisted"] is None
    of_a = next(row for row in by_task if (row["map"], row["task"]) == ("erase", "a"))
    np.testing.assert_allclose(
        [of_a["alone"]["linear"], of_a["all"]["linear"], of_a["others"]["linear"]], [[1] * 3, [1] * 3, [0.5] * 3]
    )
    told = verdict(by_size, by_task)
    assert "One eraser for all 2 tasks removes 100% of what linear and 80%" in told
    assert "for 2.0 points of primary accuracy (alone 1.0)" in told
    assert "not among the 1 of the list it removes 50%" in told
    assert len(many_harmful._picture(by_size)) > 1000


def test_images_are_turned_by_the_angle_that_their_label_says(tmp_path, monkeypatch):
    monkeypatch.setattr(many_harmful, "PRIMARY_ROWS", 5)
    monkeypatch.setattr(many_harmful, "JUDGED", 4)
    write_cifar(tmp_path, weights="weights/w", images=CIFAR, count=12)
    with np.load(tmp_path / CIFAR) as arrays:
        plain = {"train": arrays["x_train"][5:], "test": arrays["x_test"][-4:]}
    for part, images in zip(many_harmful._turned(tmp_path), plain.values(), strict=True):
        assert part is not None
        assert len(part) == len(images), "none is of the primary task"
        for place, label in enumerate(part.labels):
            back = np.rot90(part.pixels[place], -int(part.classes[label]) // 90)
            np.testing.assert_array_equal(back, images[place])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "MNIST", "turned", "MNIST"], "argument --tasks: MNIST turned MNIST names one twice"),
        (["--tasks", "MNIST"], "argument --tasks: needs at least two"),
        (["--tasks"], "argument --tasks: expected at least one argument"),
        (["--tasks", "MNIST", "cats"], "argument --tasks: invalid choice: 'cats'"),
        (["--rows", "1"], "needs at least 1 seed and 2 rows, got 3 and 1"),
    ],
)
def test_lists_that_cannot_be_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        many_harmful.main(["--data-dir", "D", *arguments])
    assert message in capsys.readouterr().err


def test_all_maps_are_methods():
    assert all(isinstance(build(), methods.Method) for build in MAPS.values())
