import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax import definition_3_1, extract, immunize, methods
from cimm_jax.attacks.protocol import Target, check_target
from cimm_jax.class_targets import one_hot
from cimm_jax.errors import InputError
from cimm_jax.numerics.inputs import as_pair
from cimm_jax.numerics.least_squares import probe_loss
from cimm_jax.tasks import SplitPair, SplitTask, Task, TaskPair, check_pair, check_task, join_tasks, stack_pairs

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
        (
            Task(X, np.array([208, 31, 5, 77])),
            r"y: holds whole numbers that are no classes .*cimm_jax\.one_hot.*amounts",
        ),
        (Task(X, jnp.array([-2, 0, 1, 3])), r"y: holds whole numbers"),
        (Task(X, np.array([[0, 2], [1, 0], [1, 1], [0, 0]])), r"y: holds whole numbers"),
        (Task(X, with_entry(Y, np.nan)), r"y: has 1 NaN or infinite values"),
        (Task(X, np.arange(20.0).reshape(4, 5)), r"y: has 5 classes and only 4 rows"),
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


@pytest.mark.parametrize("array", [np.array, jnp.array, list], ids=["NumPy", "JAX", "list"])
@pytest.mark.parametrize(
    ("labels", "meant"),
    [
        ([2, 0, 1, 2], one_hot([2, 0, 1, 2])),
        ([1, 0, 0, 1], one_hot([1, 0, 0, 1])),
        ([[1], [0], [2], [2]], one_hot([1, 0, 2, 2])),
        ([True, False, False, True], one_hot([1, 0, 0, 1])),
        ([-1, 1, 1, -1], np.array([-1.0, 1.0, 1.0, -1.0])),
        ([[1, 0], [0, 1], [1, 0], [0, 1]], np.array([[1.0, 0], [0, 1], [1, 0], [0, 1]])),
    ],
    ids=str,
)
def test_whole_numbers_are_classes(labels, meant, array):
    """Class numbers were once refused with the advice to make floats of them, which then were amounts."""
    y = array(labels)
    for x in (X, X.astype(np.float32)):
        checked = check_task(Task(x, y), "task")
        assert checked.y.dtype == x.dtype
        np.testing.assert_array_equal(checked.y, meant)
        np.testing.assert_array_equal(as_pair(TaskPair(Task(x, y), Task(x, y))).harmful.y, meant)


def test_a_class_number_gives_the_same_results_as_its_code():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((30, 4)), rng.integers(0, 3, 30)
    other = Task(rng.standard_normal((20, 4)), np.ones(20))
    pairs = [TaskPair(Task(x, y), other) for y in (labels, one_hot(labels))]
    for method in (methods.algorithm1(), methods.pencil(objective=methods.SignalAware())):
        by_number, by_code = (immunize(method, pair, steps=3).theta for pair in pairs)
        np.testing.assert_array_equal(by_number, by_code)
    by_number, by_code = (definition_3_1(extract(by_code, pair)).reasons for pair in pairs)
    assert by_number == by_code


def test_class_numbers_of_a_part_that_lacks_classes_are_refused_where_parts_meet():
    fitted, judged = Task(X, np.array([0, 1, 2, 0])), Task(X, np.array([0, 1, 1, 0]))
    with pytest.raises(InputError, match=r"judged_on: .*the same features and classes"):
        probe_loss(fitted, judged)
    with pytest.raises(
        InputError, match=r"target\.heldout\.y: has shape \(4, 1\) .*the same classes, as cimm_jax\.one_hot"
    ):
        check_target(Target(fitted, judged, None, None))


def test_whole_numbers_under_jit_are_refused():
    with pytest.raises(InputError, match=r"pair\.primary\.y: holds int64 under jit; give cimm_jax\.one_hot"):
        jax.jit(as_pair)(TaskPair(Task(X, np.arange(4)), Task(X, Y)))


def test_stacks_of_class_numbers_are_refused(rng):
    stack = TaskPair(*[Task(rng.standard_normal((2, 6, 3)), np.array([[0, 1, 2] * 2] * 2))] * 2)
    with pytest.raises(
        InputError, match=r"primary\.y: needs floating-point targets, got int64; give cimm_jax\.one_hot"
    ):
        methods.sweep({"a": methods.algorithm1()}, SplitPair(stack, stack), keys=jax.random.split(jax.random.key(0), 1))


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


def test_joined_tasks_count_alike_and_keep_their_own_covariances_with_labels(rng):
    few, many = rng.standard_normal((5, 3)) + 1, 40 * rng.standard_normal((60, 3)) - 2
    tasks = [Task(few, one_hot(np.arange(5) % 2)), Task(jnp.asarray(many), one_hot(np.arange(60) % 3))]
    joined = join_tasks(tasks)
    assert (joined.x.shape, joined.y.shape) == ((65, 3), (65, 4))
    k, (k_few, k_many) = joined.x.T @ joined.x, (x.T @ x for x in (few, many))
    expected = k_few / np.trace(k_few) + k_many / np.trace(k_many)
    np.testing.assert_allclose(k / np.trace(k) * 2, expected)
    together = (joined.x - joined.x.mean(0)).T @ (joined.y - joined.y.mean(0))
    for task, columns, size in ((tasks[0], slice(0, 1), 5), (tasks[1], slice(1, 4), 60)):
        x, y = np.asarray(task.x), task.y - task.y.mean(0)
        alone = (x - x.mean(0)).T @ y
        found = together[:, columns]
        np.testing.assert_allclose(found / np.linalg.norm(found), alone / np.linalg.norm(alone), atol=1e-12)
        others = joined.y[:, columns][:5] if size == 60 else joined.y[:, columns][5:]
        assert not others.any()
    np.testing.assert_allclose(*(np.linalg.norm(joined.y[:, of]) for of in (slice(0, 1), slice(1, 4))))


def test_of_joined_tasks_one_at_least_is_nearly_as_badly_conditioned_as_their_sum(rng):
    """docs/theory.md, section 9: kappa(H_i) >= kappa(H) / k for some i, and lambda_min(H_i) <= lambda_min(H) for all."""
    several = [Task(prescribed.features(rng, of, (30, 4))) for of in prescribed.random_spectra(rng, 3, 4)]
    theta = prescribed.matrix(rng, prescribed.geometric(100.0, 4))
    hessian, *each = (theta.T @ x.T @ x @ theta for x in (join_tasks(several).x, *_equal([task.x for task in several])))
    np.testing.assert_allclose(hessian, sum(each), rtol=1e-9)
    assert max(map(prescribed.kappa_of, each)) >= prescribed.kappa_of(hessian) / 3
    assert max(np.linalg.eigvalsh(one)[0] for one in each) <= np.linalg.eigvalsh(hessian)[0]


def _equal(arrays):
    """With the mean of their sums of squares."""
    mean = np.mean([np.sum(array**2) for array in arrays])
    return [array * (mean / np.sum(array**2)) ** 0.5 for array in arrays]


def test_a_single_task_is_joined_to_itself_and_tasks_without_labels_have_none():
    assert join_tasks([Task(X, Y)]).x is X
    assert join_tasks([Task(X), Task(X[:3])]).y is None


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([], r"^harmful: is empty; give at least one task"),
        ([Task(X, Y), Task(X[:, :2], Y)], r"^harmful\[1\]\.x: has 2 features and harmful\[0\]\.x has 3"),
        ([Task(X, Y), Task(X[:2])], r"^harmful: some tasks have targets and some have none"),
        ([Task(X, Y), Task(X, np.ones(4))], r"^harmful\[1\]\.y: is the same in every row, of one class only"),
        ([Task(X, Y), Task(X[:3], Y[:3]), Task(X, Y)], r"^harmful: task 2 is the same as task 0; give each task once"),
        ([Task(X, Y), Task(with_entry(X, np.nan), Y)], r"^harmful\[1\]\.x: has 1 NaN"),
    ],
)
def test_tasks_that_cannot_be_joined_are_named(tasks, message):
    with pytest.raises(InputError, match=message):
        join_tasks(tasks)
