import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax.errors import InputError
from cimm_jax.tasks import SplitPair, SplitTask, Task, TaskPair, check_pair, check_task, stack_pairs

X = np.arange(12.0).reshape(4, 3)
Y = np.array([1.0, -1.0, 1.0, -1.0])


def with_entry(array, value):
    changed = array.copy()
    changed.flat[1] = value
    return changed


@pytest.mark.parametrize(
    "task",
    [Task(X, Y), Task(jnp.asarray(X), jnp.asarray(Y)), Task(X, np.eye(4)), Task(X), Task(X[:2].astype("float32"))],
)
def test_usable_tasks_pass(task):
    check_task(task, "task")
    check_pair(TaskPair(task, task))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task(Y), r"x: needs shape \(rows, features\), got \(4,\)"),
        (Task(X[None]), r"x: needs shape \(rows, features\), got \(1, 4, 3\)"),
        (Task(X[:1]), r"x: needs at least 2 rows and 1 feature, got shape \(1, 3\)"),
        (Task(X[:, :0]), r"x: needs at least 2 rows and 1 feature, got shape \(4, 0\)"),
        (Task(X.astype(int)), r"x: needs a floating-point dtype, got int64"),
        (Task(with_entry(X, np.nan)), r"x: has 1 NaN or infinite values"),
        (Task(with_entry(X, np.inf)), r"x: has 1 NaN or infinite values"),
        (Task(0 * X), r"x: is zero everywhere"),
        (Task(X, Y[:3]), r"y: needs shape \(4,\) or \(4, C\), got \(3,\)"),
        (Task(X, Y.reshape(4, 1, 1)), r"y: needs shape \(4,\) or \(4, C\), got \(4, 1, 1\)"),
        (Task(X, np.array(1.0)), r"y: needs shape \(4,\) or \(4, C\), got \(\)"),
        (Task(X, np.arange(4)), r"y: holds integers, which may be classes .* give cimm_jax\.one_hot\(y\) for classes"),
        (Task(X, jnp.arange(4)[:, None]), r"y: holds integers"),
        (Task(X, Y > 0), r"y: holds integers"),
        (Task(X, with_entry(Y, np.nan)), r"y: has 1 NaN or infinite values"),
        (Task(X, np.ones((4, 5))), r"y: has 5 classes and only 4 rows"),
    ],
)
def test_errors_name_the_array(task, message):
    with pytest.raises(InputError, match=r"^harmful\." + message):
        check_task(task, "harmful")
    good = Task(X, Y)
    with pytest.raises(InputError, match=r"^pair\.primary\." + message):
        check_pair(TaskPair(task, good))
    with pytest.raises(InputError, match=r"^digits\.harmful\." + message):
        check_pair(TaskPair(good, task), "digits")


def test_labels_are_needed_only_by_methods_that_train_on_them():
    check_task(Task(X), "task")
    with pytest.raises(InputError, match=r"^task\.y: is None"):
        check_task(Task(X), "task", needs_labels=True)
    with pytest.raises(InputError, match=r"^pair\.harmful\.y: is None"):
        check_pair(TaskPair(Task(X, Y), Task(X)), needs_labels=True)


def test_both_tasks_need_the_same_features():
    with pytest.raises(InputError, match=r"^pair\.harmful\.x: has 2 features and pair\.primary\.x has 3"):
        check_pair(TaskPair(Task(X), Task(X[:, :2])))


def test_one_side_of_a_split_pair_has_both_its_parts():
    tasks = [Task(X + i) for i in range(4)]
    split = SplitPair(TaskPair(*tasks[:2]), TaskPair(*tasks[2:]))
    for name, train, heldout in (("primary", 0, 2), ("harmful", 1, 3)):
        found = split.task(name)
        assert isinstance(found, SplitTask)
        assert found.train is tasks[train]
        assert found.heldout is tasks[heldout]


def test_stacked_pairs_map_like_a_loop():
    pairs = [TaskPair(Task(X + i, Y), Task(X[:3] * (i + 1), Y[:3])) for i in range(3)]
    stacked = stack_pairs(pairs)
    assert jax.tree.map(np.shape, stacked) == TaskPair(Task((3, 4, 3), (3, 4)), Task((3, 3, 3), (3, 3)))

    def measure(pair):
        return pair.primary.x.sum() + 2 * pair.harmful.x.sum() + pair.harmful.y[0]

    np.testing.assert_allclose(jax.vmap(measure)(stacked), [measure(pair) for pair in pairs])


def test_pairs_without_labels_stack():
    assert stack_pairs([TaskPair(Task(X), Task(X))] * 2).primary.y is None


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "^pairs: is empty"),
        ([TaskPair(Task(X), Task(X)), TaskPair(Task(X), Task(X[:3]))], "^pairs: have 2 different shapes"),
        ([TaskPair(Task(X), Task(X)), TaskPair(Task(X, Y), Task(X))], "^pairs: have 2 different shapes"),
    ],
)
def test_pairs_that_cannot_be_stacked_are_named(pairs, message):
    with pytest.raises(InputError, match=message):
        stack_pairs(pairs)
