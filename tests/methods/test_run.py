"""`immunize`: history, chunks, batches, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pairs import D, make_pair

from cimm_jax import InputError, Task, TaskPair, immunize, methods

METHOD = methods.algorithm1()


def test_progress_and_records_do_not_change_the_result():
    pair, seen = make_pair(), []
    plain = immunize(METHOD, pair, steps=40)
    chunked = immunize(METHOD, pair, steps=40, record_every=4, progress=seen.append)
    np.testing.assert_allclose(chunked.theta, plain.theta, rtol=1e-9)
    np.testing.assert_allclose(chunked.history.loss, plain.history.loss[3::4], rtol=1e-9)
    assert plain.history.kappa_primary.shape == (40,)
    assert seen == sorted(seen)
    assert seen[-1] == 40


def test_a_prime_number_of_steps_shows_progress_too():
    pair, seen = make_pair(), []
    result = immunize(METHOD, pair, steps=43, progress=seen.append)
    np.testing.assert_allclose(result.theta, immunize(METHOD, pair, steps=43).theta, rtol=1e-9)
    assert len(seen) > 10
    assert seen[-1] == 43


def test_history_reports_the_condition_numbers_before_each_step():
    pair = make_pair()
    history = immunize(METHOD, pair, steps=2).history
    for kappa, task in ((history.kappa_primary, pair.primary), (history.kappa_harmful, pair.harmful)):
        np.testing.assert_allclose(kappa[0], np.linalg.cond(np.asarray(task.x)) ** 2, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "floored"), [(jnp.float32, True), (jnp.float64, False)])
def test_history_says_when_the_dtype_cannot_resolve_the_condition_numbers(dtype, floored):
    pair = make_pair()
    harder = pair._replace(harmful=pair.harmful._replace(x=pair.harmful.x * jnp.geomspace(1, 1e-3, D)[None, :]))
    history = immunize(METHOD, jax.tree.map(lambda leaf: leaf.astype(dtype), harder), steps=1).history
    assert bool(history.floored[0]) is floored


def test_batches_depend_on_the_key_only():
    pair = make_pair()
    runs = [immunize(METHOD, pair, key=jax.random.key(seed), steps=5, batch_size=8).theta for seed in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.allclose(runs[0], runs[2])


PAIR = make_pair()


@pytest.mark.parametrize(
    ("named", "pair", "settings"),
    [
        ("primary.x", PAIR._replace(primary=PAIR.primary._replace(x=PAIR.primary.x.at[0, 0].set(jnp.nan))), {}),
        ("harmful.x", PAIR._replace(harmful=PAIR.harmful._replace(x=PAIR.harmful.x[:, :3])), {}),
        ("primary.y", PAIR._replace(primary=PAIR.primary._replace(y=PAIR.primary.y[:3])), {}),
        ("harmful.y", PAIR._replace(harmful=PAIR.harmful._replace(y=None)), {}),
        ("primary.x", TaskPair(Task(jnp.zeros((4, 6)), jnp.ones(4)), PAIR.harmful), {}),
        ("harmful.x", TaskPair(PAIR.primary, Task(jnp.ones((1, 6)), jnp.ones(1))), {}),
        ("steps", PAIR, {"steps": 0}),
        ("record_every", PAIR, {"steps": 10, "record_every": 3}),
        ("batch_size", PAIR, {"batch_size": 41}),
    ],
)
def test_bad_input_is_named_before_anything_runs(named, pair, settings):
    with pytest.raises(InputError, match=named):
        immunize(METHOD, pair, **settings)


def test_tasks_without_targets_will_do_for_a_method_that_says_so():
    bare = jax.tree.map(lambda task: Task(task.x), make_pair(), is_leaf=lambda node: isinstance(node, Task))
    np.testing.assert_array_equal(immunize(methods.pencil(), bare).theta, immunize(methods.pencil(), make_pair()).theta)
    for method in (methods.pencil(objective=methods.SignalAware()), methods.algorithm1()):
        with pytest.raises(InputError, match=r"pair\.primary\.y"):
            immunize(method, bare)


def scaled(pair, scale, dtype=jnp.float64):
    return jax.tree.map(lambda leaf: (leaf * scale).astype(dtype), pair)


@pytest.mark.parametrize("name", ["algorithm1", "imma", "opt_kappa"])
@pytest.mark.parametrize(("scale", "dtype"), [(1e80, jnp.float64), (1e150, jnp.float64), (1e19, jnp.float32)])
def test_features_beyond_the_range_of_their_dtype_are_an_error_and_not_a_theta_of_nan(name, scale, dtype):
    with pytest.raises(
        InputError, match=r"pair: theta is not finite after step 1 of 5 .* leave the range of float.*scale"
    ):
        immunize(methods.KNOWN[name](), scaled(PAIR, scale, dtype), steps=5)


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e80, 1e150, 1e200])
def test_the_closed_form_has_no_scale(scale):
    plain, found = (immunize(methods.pencil(), pair).theta for pair in (PAIR, scaled(PAIR, scale)))
    np.testing.assert_allclose(found / jnp.abs(found).max(), plain / jnp.abs(plain).max(), atol=1e-12)


def test_a_closed_form_names_its_one_step():
    lost = methods.pencil()._replace(extractor=lambda state: jnp.full((D, D), jnp.nan))
    with pytest.raises(InputError, match=r"after step 1 of 1 "):
        immunize(lost, PAIR, steps=5)


def test_there_is_nothing_to_raise_of_a_task_of_rank_1():
    ones = jnp.outer(jnp.linspace(1, 2, 20), jnp.arange(1.0, D + 1))
    pair = TaskPair(PAIR.primary, Task(ones, jnp.sign(ones[:, 0] - 1.5)))
    with pytest.raises(InputError, match=r"step 1 of 3 .*the harmful Hessian has condition number 1"):
        immunize(methods.opt_kappa(), pair, steps=3)


def test_the_step_at_which_a_run_diverged_is_named():
    method = methods.algorithm1(optimizer=optax.sgd(lambda count: jnp.where(count < 3, 1e-3, 1e200)))
    assert jnp.isfinite(immunize(method, PAIR, steps=3).theta).all()
    with pytest.raises(InputError, match=r"after step [45] of 8 .*the steps are too long"):
        immunize(method, PAIR, steps=8, record_every=4)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("pencil", r"the name 'pencil'; call methods.by_name\('pencil'\)\(\)"),
        (methods.pencil, r"call it, pencil\(\.\.\.\)"),
        (None, "needs a Method, got NoneType"),
    ],
)
def test_what_is_no_method_is_named(method, said):
    with pytest.raises(InputError, match=f"method: needs a Method, .*{said}|method: {said}"):
        immunize(method, PAIR)
    with pytest.raises(InputError, match=r"methods\['it'\]: needs a Method"):
        methods.sweep({"it": method}, PAIR, keys=jax.random.split(jax.random.key(0), 1))


@pytest.mark.parametrize("key", [0, jax.random.split(jax.random.key(0), 2), jnp.zeros(2), np.zeros(2, np.uint32)])
def test_what_is_no_key_is_named(key):
    with pytest.raises(InputError, match=r"key: needs one key such as jax.random.key\(0\), got"):
        immunize(METHOD, PAIR, key=key, steps=1)


def test_a_legacy_key_will_do():
    assert jnp.isfinite(immunize(METHOD, PAIR, key=jax.random.PRNGKey(3), steps=1).theta).all()
