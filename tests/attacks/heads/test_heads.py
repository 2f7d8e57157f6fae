"""Every head against the protocol. All are compiled in one program, once a kind of target: compiling is what takes the time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks.attacked import make_target

from cimm_jax import InputError, losses
from cimm_jax.attacks import Trace, sweep
from cimm_jax.attacks.heads import HEADS, head_operators

STEPS, RECORDS = 20, (1, 5, 20)
ROWS, D, CLASSES = 24, 5, 3
TINY, USUAL, HUGE = RATES = (1e-12, 1.0, 1e6)
SMALL = {"kernel ridge": {"centres": 15}, "perceptron": {"hidden": 8, "batch_size": 10}}
ATTACKS = {name: head.build(steps=STEPS, record_at=RECORDS, **SMALL.get(name, {})) for name, head in HEADS.items()}
KEYS = jax.random.split(jax.random.key(0), 2)


def target_of(dtype=np.float64, column=False):
    rng = np.random.default_rng(0)

    def task():
        x = rng.standard_normal((ROWS, D))
        labels = (x[:, :CLASSES] + rng.standard_normal(CLASSES)).argmax(1)
        return x * np.geomspace(1e-3, 1e3, D) + 5, np.where(labels > 0, 1.0, -1.0) if column else 2 * np.eye(CLASSES)[
            labels
        ] - 1

    return jax.tree.map(lambda leaf: leaf.astype(dtype), make_target(*task(), task()))


@jax.jit
def every(key, target, rate):
    return {name: attack(key, target, rate) for name, attack in ATTACKS.items()}


@jax.jit
def every_mapped(keys, target, rates):
    """Leading axes (rates, keys)."""
    return {
        name: jax.vmap(jax.vmap(attack, (0, None, None)), (None, None, 0))(keys, target, rates)
        for name, attack in ATTACKS.items()
    }


def as_numpy(tree):
    return jax.tree.map(np.asarray, tree)


@pytest.fixture(scope="module")
def mapped():
    return as_numpy(every_mapped(KEYS, target_of(), jnp.asarray(RATES)))


@pytest.fixture(scope="module")
def looped():
    runs = [every(key, target_of(), jnp.asarray(rate)) for rate in RATES for key in KEYS]
    return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(len(RATES), len(KEYS), -1), *runs)


def assert_same(found, expected, rtol=1e-7):
    for field, a, b in zip(Trace._fields, found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12, err_msg=field)


@pytest.mark.parametrize("name", ATTACKS)
def test_vmap_over_rates_and_keys_equals_a_loop(mapped, looped, name):
    assert_same(mapped[name], looped[name])


def assert_a_trace(trace, shape, dtype):
    assert {leaf.shape for leaf in trace} == {shape}
    assert {leaf.dtype for leaf in trace[:-1]} == {np.dtype(dtype)}
    assert np.isnan(trace.norm_ratio).all()
    for name in ("loss", "heldout_loss", "accuracy"):
        assert np.isfinite(getattr(trace, name)).all(), name
    assert ((trace.accuracy >= 0) & (trace.accuracy <= 1)).all()


@pytest.mark.parametrize("name", ATTACKS)
def test_traces_are_finite_whatever_the_rate(mapped, name):
    trace = mapped[name]
    assert_a_trace(trace, (len(RATES), len(KEYS), len(RECORDS)), np.float64)
    diverged = trace.diverged[RATES.index(HUGE)].all() if name == "perceptron" else not trace.diverged.any()
    assert diverged, "only a perceptron can go too fast"


@pytest.mark.parametrize("name", ATTACKS)
def test_rate_and_key_are_used_if_and_only_if_the_table_says_so(mapped, name):
    loss = mapped[name].loss
    assert (loss != loss[:1]).any() == (len(HEADS[name].rates) > 1)
    assert (loss != loss[:, :1]).any() == HEADS[name].random


@pytest.fixture(scope="module")
def plain():
    return as_numpy(every(KEYS[0], target_of(), jnp.asarray(0.1)))


@pytest.fixture(scope="module")
def padded():
    pad = jnp.asarray([0.0, 0.0, 0.1])

    def change(x):
        return jnp.concatenate([x, jnp.broadcast_to(pad, (len(x), 3))], 1)

    return as_numpy(every(KEYS[0], target_of().with_features(change), jnp.asarray(0.1)))


@pytest.mark.parametrize("name", ATTACKS)
def test_zeros_and_constants_beside_the_features_change_nothing(plain, padded, name):
    assert_same(padded[name], plain[name])


@pytest.fixture(scope="module")
def rescaled():
    target = target_of().with_features(lambda x: x * jnp.asarray([[1e3, 1.0, 0.1, 7.0, 1e-5]]) - 3)
    return as_numpy(every(KEYS[0], target, jnp.asarray(0.1)))


@pytest.mark.parametrize("name", ATTACKS)
def test_scale_and_origin_of_the_features_change_nothing_but_where_asked(plain, rescaled, name):
    if name == "unscaled ridge regression":
        assert not np.allclose(rescaled[name].heldout_loss, plain[name].heldout_loss, rtol=1e-5)
    else:
        assert_same(rescaled[name], plain[name], rtol=1e-5)


def test_unscaled_features_have_no_origin_either(plain):
    moved = as_numpy(every(KEYS[0], target_of().with_features(lambda x: 7 * x - 3), jnp.asarray(0.1)))
    assert_same(moved["unscaled ridge regression"], plain["unscaled ridge regression"], rtol=1e-5)


@pytest.fixture(scope="module")
def of_two_classes():
    return as_numpy(every(KEYS[0], target_of(column=True), jnp.asarray(0.1)))


@pytest.mark.parametrize("name", ATTACKS)
def test_two_classes_may_have_targets_without_a_second_axis(of_two_classes, name):
    assert_a_trace(of_two_classes[name], (len(RECORDS),), np.float64)
    assert of_two_classes[name].accuracy[-1] > 0.6


@pytest.fixture(scope="module")
def of_twins():
    """Every row twice, and in single precision: kernels and covariances are singular."""
    target = target_of(np.float32)
    twice = target._replace(fit=jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), target.fit))
    return as_numpy(every_mapped(KEYS[:1], twice, jnp.asarray(RATES, np.float32)))


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.slow
def test_equal_rows_in_single_precision(of_twins, name):
    assert_a_trace(of_twins[name], (len(RATES), 1, len(RECORDS)), np.float32)


def test_operators_go_through_a_sweep():
    operators = [operator for operator in head_operators(classes=CLASSES, steps=3) if operator.loss is losses.squared]
    swept = sweep(operators, {"undefended": target_of()}, keys=KEYS)
    assert {name: s.accuracy.shape for name, s in swept.items()} == {
        "ridge regression": (1, 3, 1, 3),
        "unscaled ridge regression": (1, 3, 1, 3),
        "nearest neighbours": (1, 3, 1, 3),
        "kernel ridge": (1, 3, 2, 3),
    }


def test_operators_are_judged_by_what_they_fit():
    of_several, of_one = ({o.name: o.loss for o in head_operators(classes=classes)} for classes in (3, 1))
    assert of_several["perceptron"] is of_several["softmax regression"] is losses.softmax
    assert of_one["perceptron"] is of_one["softmax regression"] is losses.logistic
    assert of_several["kernel ridge"] is losses.squared


@pytest.mark.parametrize("build", [*(head.build for head in HEADS.values())])
def test_bad_steps_are_refused(build):
    with pytest.raises(InputError, match=r"^steps"):
        build(steps=0)
    with pytest.raises(InputError, match=r"^record_at"):
        build(steps=3, record_at=(4,))


def test_bad_operators_are_refused():
    with pytest.raises(InputError, match=r"^names: 'oracle' is unknown; choose of ridge regression"):
        head_operators(["oracle"], classes=3)
    with pytest.raises(InputError, match=r"^classes: .*0"):
        head_operators(classes=0)
