"""Every attacker against the protocol: pure, jit-able, vmap-able, finite whatever the rate.

All of them are compiled in one program, three times over: compiling is what takes the time.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cimm_jax import Task, attacks, losses
from cimm_jax.attacks import Target, known_optimizers, standard_operators

STEPS, RECORDS = 20, (1, 5, 20)
ROWS, D, CLASSES = 20, 5, 3
TINY, USUAL, HUGE = RATES = (1e-12, 1e-2, 1e12)
SETTINGS = {"steps": STEPS, "record_at": RECORDS}
STANDARD = {operator.name: operator for operator in standard_operators(**SETTINGS)}
ALL_NAMES = tuple(dict.fromkeys((*known_optimizers(), *attacks.STANDARD)))
ALL = {operator.name: operator for operator in standard_operators(ALL_NAMES, **SETTINGS)}


def make_target(seed=0, classes=None, dtype=jnp.float64):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal((D, D)) * np.geomspace(3, 0.3, D)

    def task():
        x = rng.standard_normal((ROWS, D))
        if classes is None:
            return Task(x @ theta, np.sign(x[:, 0] + rng.standard_normal(ROWS)))
        return Task(x @ theta, 2 * np.eye(classes)[(x[:, :classes] + rng.standard_normal(classes)).argmax(1)] - 1)

    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), Target(task(), task(), theta))


KEYS = jax.random.split(jax.random.key(0), 2)
TARGETS = [make_target(seed, CLASSES) for seed in range(2)]


GRID = (len(TARGETS), len(RATES), len(KEYS))


@pytest.fixture(scope="module")
def alone():
    """By attacker: traces of one (target, rate, key) at a time, of shape (*GRID, records) when put together."""
    every = jax.jit(
        lambda key, target, rate: {name: operator.attack(key, target, rate) for name, operator in STANDARD.items()}
    )
    runs = [every(KEYS[k], TARGETS[t], jnp.asarray(RATES[r])) for t, r, k in np.ndindex(GRID)]
    return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(*GRID, -1), *runs)


@pytest.fixture(scope="module")
def together():
    """The same by vmap over all of them."""
    t, r, k = np.indices(GRID).reshape(3, -1)
    targets = jax.tree.map(lambda *leaves: jnp.stack(leaves)[t], *TARGETS)
    every = jax.jit(lambda *given: {name: jax.vmap(operator.attack)(*given) for name, operator in STANDARD.items()})
    return jax.tree.map(
        lambda leaf: np.asarray(leaf).reshape(*GRID, -1), every(KEYS[k], targets, jnp.asarray(RATES)[r])
    )


@pytest.fixture(scope="module")
def single_precision():
    """Every attacker there is, in float32 and with targets (N,), at a tiny and a huge rate."""
    target, rates = make_target(dtype=jnp.float32), jnp.asarray((TINY, HUGE), jnp.float32)
    every = jax.jit(
        lambda key, target, rates: {
            name: jax.vmap(operator.attack, in_axes=(None, None, 0))(key, target, rates)
            for name, operator in ALL.items()
        }
    )
    return target, jax.tree.map(np.asarray, every(KEYS[0], target, rates))


def assert_a_trace(trace, shape, dtype):
    assert isinstance(trace, attacks.Trace)
    assert {leaf.shape for leaf in trace} == {shape}
    assert {leaf.dtype for leaf in trace[:-1]} == {np.dtype(dtype)}
    assert trace.diverged.dtype == bool
    for name, leaf in trace._asdict().items():
        assert np.isfinite(leaf).all(), name
    assert (np.diff(trace.diverged.astype(int), axis=-1) >= 0).all(), "what has diverged stays so"
    assert ((trace.accuracy >= 0) & (trace.accuracy <= 1)).all()


def zero_loss(target):
    return float(losses.squared(jnp.zeros_like(target.fit.y), target.fit.y))


@pytest.mark.parametrize("name", STANDARD)
def test_traces_of_several_classes_in_float64(together, name):
    assert_a_trace(together[name], (*GRID, len(RECORDS)), np.float64)


@pytest.mark.parametrize("name", STANDARD)
def test_vmap_over_targets_rates_and_keys_equals_a_loop(alone, together, name):
    rtol = 1e-4 if name == "lbfgs" else 1e-7  # its line search branches, and so makes much of rounding
    for field, looped, mapped in zip(attacks.Trace._fields, alone[name], together[name], strict=True):
        np.testing.assert_allclose(mapped, looped, rtol=rtol, atol=1e-12, err_msg=field)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.slow
def test_traces_in_float32_at_a_tiny_and_a_huge_rate(single_precision, name):
    target, traces = single_precision
    assert_a_trace(traces[name], (2, len(RECORDS)), np.float32)
    if ALL[name].has_rate:
        assert not traces[name].diverged[0].any()
        if not ALL[name].random and not name.endswith("madgrad"):  # which adds 1e-6 to its rate
            np.testing.assert_allclose(traces[name].loss[0], zero_loss(target), rtol=1e-4)


@pytest.mark.parametrize("name", STANDARD)
def test_a_usual_rate_learns_something(together, name):
    at = RATES.index(USUAL)
    for index, target in enumerate(TARGETS):
        start = together[name].loss[index, RATES.index(TINY), :, 0] if ALL[name].has_rate else zero_loss(target)
        assert (together[name].loss[index, at, :, -1] < start).all()
        assert not together[name].diverged[index, at].any()


@pytest.mark.parametrize("name", [name for name, operator in STANDARD.items() if operator.has_rate])
def test_a_huge_rate_is_flagged_and_keeps_the_zero_probe(together, name):
    at = RATES.index(HUGE)
    for index, target in enumerate(TARGETS):
        assert together[name].diverged[index, at].all()
        np.testing.assert_allclose(together[name].loss[index, at], zero_loss(target), rtol=1e-12)
        np.testing.assert_allclose(together[name].norm_ratio[index, at], 1, rtol=1e-12)


@pytest.mark.parametrize("name", STANDARD)
def test_rate_and_key_are_used_if_and_only_if_the_operator_says_so(together, name):
    loss = together[name].loss
    operator = STANDARD[name]
    differs_by_rate = not np.array_equal(loss[:, RATES.index(TINY)], loss[:, RATES.index(USUAL)])
    differs_by_key = not np.array_equal(loss[:, :, 0], loss[:, :, 1])
    assert (differs_by_rate, differs_by_key) == (operator.has_rate, operator.random)


def test_gradient_and_adaptive_attackers_are_told_apart():
    assert {name for name, operator in STANDARD.items() if operator.adaptive} == set(attacks.ADAPTIVE)
    assert set(STANDARD) == {*attacks.GRADIENT, *attacks.ADAPTIVE}
