"""Every method against the protocol: pure, jit-able, vmap-able, finite, and it does what it is for."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from pairs import D, make_pair

from cimm_jax import InputError, Task, covariance, immunize, losses, methods, relative_immunization_ratio, stack_pairs
from cimm_jax.numerics.penalty import Opposed

EVERY = [name for name in methods.KNOWN if name not in methods.PRESETS]
NAMES = [name for name in EVERY if methods.KNOWN[name]().makes_maps]
ITERATIVE = [name for name in NAMES if not methods.KNOWN[name]().closed_form]
QUICK = ("algorithm1", "best_response", "erase", "pencil")
"""Methods of each kind, whose compiling is waited for at every run of the tests; that of the others is slow."""


def quick_first(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


TRAINED = [name for name in EVERY if not methods.KNOWN[name]().closed_form]


def assert_finite(tree, name):
    """Everything is finite, but for the loss of a method that trains no primary head."""
    for path, leaf in jax.tree.leaves_with_path(tree):
        if name in ITERATIVE or "loss" not in jax.tree_util.keystr(path):
            chex.assert_tree_all_finite(leaf)


@pytest.mark.parametrize("name", NAMES)
def test_usable_with_no_argument_and_every_step_is_pure(name):
    method, pair = methods.KNOWN[name](), make_pair()
    state = method.init(jax.random.key(0), pair)
    chex.assert_trees_all_equal(state, method.init(jax.random.key(0), pair))
    once = method.step(state, pair)
    again = method.step(state, pair)
    chex.assert_trees_all_equal(once, again)
    assert_finite(once, name)
    assert method.extractor(once[0]).shape == (D, D)
    assert jax.tree.structure(once[0]) == jax.tree.structure(state), "a step keeps the state's structure, as scan needs"
    assert not np.array_equal(method.extractor(once[0]), method.extractor(state)), "a step moves theta"


@pytest.mark.parametrize("name", quick_first(NAMES))
def test_jit_changes_nothing_and_compiles_once(name):
    method, pair = methods.KNOWN[name](), make_pair()
    state = method.init(jax.random.key(0), pair)
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(method.step, n=1))
    eager, compiled = state, state
    for _ in range(3):
        eager = method.step(eager, pair)[0]
        compiled = step(compiled, pair)[0]
    chex.assert_trees_all_close(eager, compiled, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", quick_first(NAMES))
def test_vmap_over_pairs_and_seeds_equals_a_loop(name):
    method = methods.KNOWN[name]()
    pairs, keys = [make_pair(seed) for seed in range(3)], jax.random.split(jax.random.key(1), 3)

    @jax.jit
    def first_step(key, pair):
        return method.step(method.init(key, pair), pair)

    together = jax.jit(jax.vmap(first_step))(keys, stack_pairs(pairs))
    for index, (key, pair) in enumerate(zip(keys, pairs, strict=True)):
        alone = first_step(key, pair)
        one = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        chex.assert_trees_all_close(one, alone, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", quick_first(NAMES))
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_is_kept(name, dtype):
    pair = jax.tree.map(lambda leaf: leaf.astype(dtype), make_pair())
    result = immunize(methods.KNOWN[name](), pair, steps=2)
    numbers = (result.theta, result.history._replace(floored=None))
    assert {leaf.dtype for leaf in jax.tree.leaves(numbers)} == {np.dtype(dtype)}
    assert_finite(result, name)


@pytest.mark.parametrize("name", quick_first(ITERATIVE))
@pytest.mark.parametrize("loss", [losses.squared, losses.logistic])
def test_both_losses_and_several_targets(name, loss):
    method = methods.KNOWN[name](loss=loss)
    for classes in (None, 3):
        pair = make_pair(classes=classes)
        chex.assert_tree_all_finite(jax.jit(method.step)(method.init(jax.random.key(0), pair), pair))


@pytest.mark.parametrize("name", quick_first(ITERATIVE))
@pytest.mark.parametrize(
    "optimizer", [optax.sgd(1e-3), optax.adam(1e-3), optax.chain(optax.clip_by_global_norm(1.0), optax.lion(1e-4))]
)
def test_any_optax_optimizer_slots_in(name, optimizer):
    with jax.numpy_dtype_promotion("standard"):  # optax's own arithmetic mixes dtypes
        result = immunize(methods.KNOWN[name](optimizer=optimizer), make_pair(), steps=5)
    chex.assert_tree_all_finite(result)


@pytest.mark.parametrize("name", TRAINED)
def test_weights_are_checked(name):
    function = methods.KNOWN[name]
    lambdas = [key for key in inspect.signature(function).parameters if key.startswith("lambda")]
    assert lambdas
    for setting in lambdas:
        for bad in (-1.0, float("nan"), float("inf")):
            with pytest.raises(InputError, match=setting):
                function(**{setting: bad})


@pytest.mark.parametrize("name", quick_first(NAMES))
@pytest.mark.parametrize("hessian", list(methods.HessianFrom))
def test_minibatches_smaller_than_the_features_stay_finite(name, hessian):
    settings = {"hessian": hessian} if "hessian" in inspect.signature(methods.KNOWN[name]).parameters else {}
    result = immunize(methods.KNOWN[name](**settings), make_pair(), steps=20, batch_size=3)
    chex.assert_tree_all_finite(result.theta)


@pytest.mark.parametrize("name", ["algorithm1", "ill_only", "opt_kappa"])
def test_hessians_of_a_batch_of_all_rows_are_those_of_the_data(name):
    pair = make_pair()
    steps = []
    for hessian in methods.HessianFrom:
        method = methods.KNOWN[name](hessian=hessian)
        steps.append(method.step(method.init(jax.random.key(0), pair), pair)[0].theta)
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", ["algorithm1", "ill_only"])
def test_hessians_of_a_small_batch_are_those_of_its_covariance(name):
    pair = make_pair()
    small = jax.tree.map(lambda leaf: leaf[:3], pair)
    weights = {"lambda_primary": 1e-3, "lambda_harmful": 1e6}  # of the order of the balanced ones
    settings = {key: weights[key] for key in weights if key in inspect.signature(methods.KNOWN[name]).parameters}
    from_batch = methods.KNOWN[name](hessian=methods.HessianFrom.BATCH, **settings)
    state = from_batch.init(jax.random.key(0), pair)
    expected = methods.KNOWN[name](**settings).step(
        state._replace(k_primary=covariance(small.primary.x), k_harmful=covariance(small.harmful.x)), small
    )[0]
    np.testing.assert_allclose(from_batch.step(state, small)[0].theta, expected.theta, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ITERATIVE])
def test_a_closed_form_is_there_after_one_step(name):
    method, pair = methods.KNOWN[name](), make_pair()
    result = immunize(method, pair, steps=1)
    for steps, batch_size in ((7, None), (5, 3)):
        again = immunize(method, pair, steps=steps, batch_size=batch_size)
        np.testing.assert_array_equal(again.theta, result.theta)


# --- for trained blocks ---


@pytest.mark.parametrize("name", EVERY)
def test_penalties_are_scalars_of_features_with_finite_gradients_or_there_are_none(name):
    penalties = methods.KNOWN[name]().penalties
    if penalties is None:
        assert name not in ITERATIVE, "what adds to a loss can add to that of blocks"
        return
    assert penalties
    for dtype in (jnp.float32, jnp.float64):
        batch = jax.tree.map(lambda leaf, dtype=dtype: leaf.astype(dtype), make_pair(rows=12, classes=3))
        batch = batch._replace(primary=Task(batch.primary.x), harmful=Task(batch.harmful.x[:9], batch.harmful.y[:9]))
        for penalty in penalties:
            with_unit = penalty.everywhere or penalty.against is not None
            assert with_unit or penalty.weight is None, "balanced, unless it has a unit of its own"
            shown = batch
            if penalty.against is not None:
                classes = jnp.eye(3, dtype=dtype)[jnp.arange(9) % 3]
                of_classes = batch._replace(harmful=batch.harmful._replace(y=classes))
                shown = Opposed(of_classes, batch.harmful.x[:, :3], jnp.square(batch.primary.x).mean())
            value, gradient = jax.jit(jax.value_and_grad(penalty.value))(shown)
            assert (value.shape, value.dtype) == ((), dtype)
            chex.assert_tree_all_finite((value, gradient))
            chex.assert_trees_all_equal((value, gradient), jax.jit(jax.value_and_grad(penalty.value))(shown))


@pytest.mark.parametrize("name", TRAINED)
def test_each_lambda_is_the_weight_of_one_penalty(name):
    function = methods.KNOWN[name]
    lambdas = [key for key in inspect.signature(function).parameters if key.startswith("lambda")]
    given = {key: float(number) for number, key in enumerate(lambdas, start=2)}
    assert [penalty.weight for penalty in function(**given).penalties] == list(given.values())


def ratio(name, **settings):
    pair = make_pair(rows=200)
    result = immunize(methods.KNOWN[name](**settings), pair, steps=200)
    return relative_immunization_ratio(result.theta, pair)


def test_algorithm1_raises_the_harmful_and_lowers_the_primary_condition_number():
    measured = ratio("algorithm1")
    assert measured.harmful_ratio > 1 > measured.primary_ratio


def test_opt_kappa_raises_the_harmful_and_lowers_the_primary_condition_number():
    measured = ratio("opt_kappa")
    assert measured.harmful_ratio > 1 > measured.primary_ratio


def test_ill_only_raises_the_harmful_condition_number():
    assert ratio("ill_only").harmful_ratio > 1


def test_imma_raises_the_harmful_loss_that_a_probe_reaches():
    def reached(theta, task, steps=10):
        features = task.x @ theta
        rate = 1 / jnp.linalg.eigvalsh(features.T @ features)[-1]
        w = jnp.zeros(D)
        for _ in range(steps):
            w = w - rate * features.T @ (features @ w - task.y)
        return jnp.mean((features @ w - task.y) ** 2) / 2

    pair = make_pair(rows=200)
    with_term = immunize(methods.imma(), pair, steps=200).theta
    without = immunize(methods.imma(lambda_harmful=0.0), pair, steps=200).theta
    assert reached(with_term, pair.harmful) > reached(without, pair.harmful)


def test_zero_lambdas_leave_the_primary_loss_alone():
    same = [methods.algorithm1(lambda_primary=0.0, lambda_harmful=0.0), methods.ill_only(lambda_harmful=0.0)]
    first, second = (immunize(method, make_pair(), steps=10).theta for method in same)
    np.testing.assert_allclose(first, second, rtol=1e-12)


def test_balanced_lambdas_make_the_terms_as_long_as_the_loss_gradient():
    pair = make_pair()
    state = methods.algorithm1().init(jax.random.key(0), pair)
    from cimm_jax.methods._algorithm1 import ill_harmful, well_primary
    from cimm_jax.methods._penalised import View

    view = View(pair, state.k_primary, state.k_harmful)
    gradient = jax.grad(lambda theta: losses.squared(pair.primary.x @ theta @ state.omega, pair.primary.y))(state.theta)
    for term, weight in zip((well_primary, ill_harmful), state.weights, strict=True):
        np.testing.assert_allclose(
            weight * jnp.linalg.norm(term(state.theta, view)), jnp.linalg.norm(gradient), rtol=1e-9
        )


def test_algorithm1_step_is_the_paper_s_update_with_plain_gradient_descent():
    pair, rate, lambdas = make_pair(), 1e-3, (3e-7, 5e2)
    method = methods.algorithm1(lambda_primary=lambdas[0], lambda_harmful=lambdas[1], optimizer=optax.sgd(rate))
    state = method.init(jax.random.key(0), pair)
    after = method.step(state, pair)[0]

    def loss(theta, omega):
        return jnp.mean((pair.primary.x @ theta @ omega - pair.primary.y) ** 2) / 2

    def well(theta):
        sigma = jnp.linalg.svd(theta.T @ state.k_primary @ theta, compute_uv=False)
        return sigma[0] ** 2 / 2 - jnp.sum(sigma**2) / (2 * D)

    def ill(theta):
        sigma = jnp.linalg.svd(theta.T @ state.k_harmful @ theta, compute_uv=False)
        return 1 / (jnp.sum(sigma**2) / (2 * D) - sigma[-1] ** 2 / 2)

    g_theta, g_omega = jax.grad(loss, argnums=(0, 1))(state.theta, state.omega)
    expected = state.theta - rate * (
        g_theta
        + lambdas[0] * jnp.linalg.solve(state.k_primary, jax.grad(well)(state.theta))
        + lambdas[1] * jnp.linalg.solve(state.k_harmful, jax.grad(ill)(state.theta))
    )
    np.testing.assert_allclose(after.theta, expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(after.omega, state.omega - rate * g_omega, rtol=1e-10)
