"""Tasks of classes: their targets, the precision of each attacker, and shares of errors."""

from functools import partial

import jax
import numpy as np
import pytest

from cimm_jax import losses
from cimm_jax.attacks import Target, behind, class_task, standard_operators, sweep_classes
from cimm_jax.class_targets import one_hot

KEYS = jax.random.split(jax.random.key(0), 1)
SOLVER = "whiten + line_search"


def operators(*names, **settings):
    return standard_operators(names, **{"steps": 20, "rates": 2, **settings})


def drawn(rng, rows=30, features=5, classes=3):
    """Features and labels to fit on and to be judged on."""
    means = rng.standard_normal((classes, features))
    labels = np.arange(rows) % classes
    return [(means[labels] + rng.standard_normal((rows, features)), labels) for _ in range(2)]


def test_targets_are_minus_their_means_only_where_the_squared_loss_fits_them(rng):
    train, heldout = drawn(rng)
    coded = one_hot(train[1], 3)
    for squared, expected in ((True, coded - coded.mean(0)), (False, coded)):
        task = class_task((train[0].astype(np.float32), train[1]), heldout, classes=3, squared=squared)
        np.testing.assert_allclose(task.train.y, expected, atol=1e-12)
        np.testing.assert_array_equal(task.heldout.y, one_hot(heldout[1], 3), "what is judged stays classes")
        np.testing.assert_array_equal(task.train.x, train[0].astype(np.float32))
        assert {leaf.dtype for leaf in jax.tree.leaves(task)} == {np.dtype(np.float64)}


def test_held_out_rows_are_judged_by_errors_over_those_of_guessing(rng):
    """One of four classes was left out, so guessing errs on two of three."""
    target = behind(np.eye(5), class_task(*drawn(rng), classes=4, squared=True))
    for found in sweep_classes(operators(SOLVER, "adam"), {"it": target}, keys=KEYS).values():
        np.testing.assert_allclose(found.heldout_left, (1 - found.accuracy) / (2 / 3), rtol=1e-6)
    assert found.accuracy.max() > 0.5


def test_two_classes_are_one_column_and_guessing_errs_on_half(rng):
    target = behind(np.eye(5), class_task(*drawn(rng, classes=2), classes=2, squared=True))
    found = sweep_classes(operators(SOLVER), {"it": target}, keys=KEYS)[SOLVER]
    np.testing.assert_allclose(found.heldout_left, 2 * (1 - found.accuracy), rtol=1e-6)


@pytest.mark.parametrize(("loss", "axes", "others"), [(losses.squared, "f4", "f8"), (losses.softmax, "f4", "f4")])
def test_optimizers_that_look_at_axes_run_in_float32_and_the_order_is_kept(rng, loss, axes, others):
    names = ("adam", "momentum", "standardise + adam", "lbfgs")
    target = behind(np.eye(5), class_task(*drawn(rng), classes=3, squared=loss is losses.squared))
    swept = sweep_classes(operators(*names, loss=loss), {"it": target}, keys=KEYS)
    assert list(swept) == list(names)
    for name, found in swept.items():
        assert found.trace.loss.dtype == np.dtype(axes if "adam" in name else others), name


def test_rounding_errors_that_a_map_blows_up_are_nothing_to_fit(rng):
    """The features lack a direction, and the map makes it a million times as prominent as the others."""
    x = rng.integers(-8, 9, (2, 30, 5)).astype(np.float64)
    x[..., 4] = x[..., 0] + x[..., 1]
    labels = rng.integers(0, 3, (2, 30))
    task = class_task(*zip(x, labels, strict=True), classes=3, squared=True)
    lacking = np.array([1.0, 1.0, 0.0, 0.0, -1.0])
    basis = np.linalg.qr(np.c_[lacking, rng.standard_normal((5, 4))])[0]
    thetas = {"undefended": np.eye(5), "mapped": basis * np.r_[1e6, 1, 1, 1, 1]}
    noise = x[0] @ thetas["mapped"]
    assert np.linalg.matrix_rank(noise, tol=1e-13 * np.linalg.norm(noise, 2)) == 5, "else there is nothing to be seen"
    targets = {name: behind(theta, task) for name, theta in thetas.items()}
    swept = sweep_classes(operators(SOLVER, "standardise + adam"), targets, keys=KEYS)
    np.testing.assert_allclose(swept[SOLVER].left[..., -1], 0, atol=1e-9)
    for found in swept.values():
        assert found.left.min() > -1e-5, f"{found.operator.name} fits better than any probe of the features can"


def test_what_is_left_is_above_the_least_of_all_features_that_are_no_map_of_the_first(rng):
    """The second network's features know more: nothing is left there, and what the first one's cannot know is left."""
    train, heldout = drawn(rng)
    poor, rich = (
        class_task(*((x[:, :columns], labels) for x, labels in (train, heldout)), classes=3, squared=True)
        for columns in (2, 5)
    )
    # One shape for both: the first network's features beyond two are copies of those.
    poor = jax.tree.map(lambda leaf: leaf[:, [0, 1, 0, 1, 0]] if leaf.shape[1] == 2 else leaf, poor)
    targets = {"undefended": Target(*poor), "trained": Target(*rich)}
    left = sweep_classes(operators(SOLVER), targets, keys=KEYS)[SOLVER].left[:, 0, 0, -1]
    y = np.asarray(rich.train.y)
    least = [np.mean((x @ np.linalg.lstsq(x, y)[0] - y) ** 2) for x in (poor.train.x, rich.train.x)]
    np.testing.assert_allclose(left, [(least[0] - least[1]) / (np.mean(y**2) - least[1]), 0], atol=1e-9)
    assert left[0] > 0.05


def stop_at(count, calls):
    def progress(made):
        calls.append(made)
        if made == count:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize(
    ("stopped_at", "finished"), [(1, ["gd"]), (2, ["gd", "momentum"]), (3, ["gd", "momentum", "adam"])]
)
def test_an_interruption_is_raised_wherever_it_comes_and_what_was_finished_is_not_run_again(rng, stopped_at, finished):
    """Those in float64 come first, whatever the order in which they were asked for; the second is their last."""
    names, calls, kept = ("adam", "gd", "momentum", "adamw"), [], {}
    target = behind(np.eye(5), class_task(*drawn(rng), classes=3, squared=True))

    def keep(operator, trace):
        kept[operator.name] = trace

    sweep = partial(sweep_classes, operators(*names), {"it": target}, keys=KEYS, finished=keep)
    with pytest.raises(KeyboardInterrupt):
        sweep(progress=stop_at(stopped_at, calls))
    assert calls == list(range(1, stopped_at + 1))
    assert list(kept) == finished
    done = dict(kept)
    kept.clear()
    again, whole = sweep(done=done), sweep_classes(operators(*names), {"it": target}, keys=KEYS)
    assert set(kept) == set(names) - set(finished)
    assert list(again) == list(whole) == list(names)
    for one, other in zip(again.values(), whole.values(), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one[1:], other[1:])
