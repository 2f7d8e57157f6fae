"""The sweep, mostly with attacks whose traces are written down beforehand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from attacks.attacked import least_loss, make_target, run_one

from cimm_jax import InputError, losses
from cimm_jax.attacks import Operator, Trace, best, best_so_far, linear_probe, protocol, sweep

KEYS = jax.random.split(jax.random.key(0), 3)
RECORDS = (1, 4, 9)


def victims(seed=0, classes=True):
    rng = np.random.default_rng(seed)
    inputs, others = rng.standard_normal((20, 3)), rng.standard_normal((10, 3))
    y, other_y = (rng.standard_normal(size) for size in (20, 10))
    if classes:
        y, other_y = np.sign(y), np.sign(other_y)
    thetas = {"undefended": np.eye(3) * 7.0, "immunized": np.diag([1.0, 1e-2, 1e-3])}
    return {name: make_target(inputs @ t, y, (others @ t, other_y), t) for name, t in thetas.items()}


TARGETS = victims()
Y = np.asarray(TARGETS["undefended"].fit.y)
LEAST = least_loss(np.asarray(TARGETS["undefended"].fit.x), Y)


def prescribed_trace(loss, heldout_loss=None, accuracy=None, diverged=False):
    """A trace of constants or traced values, each of shape (records,)."""
    loss = jnp.asarray(loss, float)
    others = [loss if given is None else jnp.asarray(given, float) for given in (heldout_loss, accuracy)]
    return Trace(loss, *others, jnp.ones_like(loss), jnp.broadcast_to(jnp.asarray(diverged), loss.shape))


def operator(name, attack, *rates, **traits):
    return Operator(name, attack, rates or (1.0,), has_rate=len(rates) > 0, **{"random": False, **traits})


def always(loss, **fields):
    return lambda key, target, rate: prescribed_trace(loss, **fields)


@pytest.fixture(scope="module")
def real():
    probe = linear_probe("gd", steps=9, record_at=RECORDS)
    operators = [
        operator("gd", probe, 1.0, 50.0),
        operator("sgd", linear_probe("sgd", steps=9, record_at=RECORDS), 0.5, random=True),
    ]
    return {o.name: o for o in operators}, sweep(operators, TARGETS, keys=KEYS)


def test_every_extractor_is_attacked_at_every_rate_with_every_seed(real):
    operators, swept = real
    assert list(swept) == list(operators)
    for name, shape in {"gd": (2, 2, 1, 3), "sgd": (2, 1, 3, 3)}.items():
        assert swept[name].operator is operators[name]
        arrays = (*swept[name].trace, *swept[name][2:])
        assert {array.shape for array in arrays} == {shape}
        assert all(isinstance(array, np.ndarray) for array in arrays)
    assert len(np.unique(swept["sgd"].left[0, 0, :, -1])) == 3


def test_each_run_is_the_attack_itself(real):
    operators, swept = real
    for index, target in enumerate(TARGETS.values()):
        alone = run_one(
            operators["gd"].attack, target
        )  # the rate of gd is in units of curvature, so scale has no part in it
        for field in ("loss", "heldout_loss", "accuracy", "norm_ratio"):
            np.testing.assert_allclose(getattr(swept["gd"].trace, field)[index, 0, 0], getattr(alone, field), rtol=1e-8)


def test_shares_are_of_what_there_is_to_learn(real):
    swept = real[1]["gd"]
    excess = (swept.trace.loss[:, 0] - LEAST) / (0.5 - LEAST)
    np.testing.assert_allclose(swept.left[:, 0], excess, rtol=1e-8)
    np.testing.assert_allclose(swept.heldout_left[:, 0, :, 0], swept.trace.heldout_loss[:, 0, :, 0] / 0.5)
    assert swept.left[0, 0, 0, -1] < 0.1 < swept.left[1, 0, 0, -1]


def test_a_rate_that_diverges_never_wins(real):
    swept = real[1]["gd"]
    assert swept.trace.diverged[:, 1, :, -1].all()
    assert np.isfinite(swept.trace.loss).all()
    late = swept.trace.diverged
    assert np.isinf(swept.left[late]).all()
    assert np.isinf(swept.heldout_left[late]).all()
    np.testing.assert_array_equal(swept.accuracy[late], 0)
    np.testing.assert_array_equal(best(swept.left).rate, 0)
    np.testing.assert_array_equal(best(swept.accuracy, largest=True).rate, 0)


def test_a_run_that_diverged_does_not_win_with_the_record_before():
    def attack(key, target, rate):
        return prescribed_trace(jnp.where(rate > 1, 0.1, 0.4) * jnp.ones(3), diverged=(rate > 1) & (jnp.arange(3) > 0))

    swept = sweep([operator("it", attack, 1.0, 2.0)], TARGETS, keys=KEYS)["it"]
    np.testing.assert_array_equal(best(swept.left).rate, [[1, 0, 0]] * 2)
    np.testing.assert_array_equal(best(swept.heldout_left).rate, [[1, 0, 0]] * 2)


def test_attackers_see_features_of_mean_square_one_their_map_and_factors():
    inputs = np.asarray(TARGETS["undefended"].fit.x) / 7
    others = np.asarray(TARGETS["undefended"].heldout.x) / 7

    def attack(key, target, rate):
        u, sigma, vt = target.factors
        misfits = [
            target.fit.x - inputs @ target.mapping,
            target.heldout.x - others @ target.mapping,
            (u * sigma[None, :]) @ vt - target.fit.x,
        ]
        return prescribed_trace(jnp.stack([jnp.mean(target.fit.x**2), *(jnp.abs(m).max() for m in misfits)]))

    seen = sweep([operator("look", attack)], TARGETS, keys=KEYS)["look"].trace.loss
    np.testing.assert_allclose(seen[:, 0, 0], [[1, 0, 0, 0]] * 2, atol=1e-12)


def test_one_compilation_an_operator():
    traced = []

    def attack(key, target, rate):
        traced.append(target.fit.x.shape)
        return prescribed_trace([0.4, 0.3])

    operators = [operator("counted", attack, 1.0, 2.0, 3.0, random=True)]
    swept = sweep(operators, TARGETS, keys=KEYS)
    assert swept["counted"].left.shape == (2, 3, 3, 2)
    assert traced == [(20, 3)]
    sweep(operators, victims(1), keys=KEYS)
    assert len(traced) == 1, "the same shapes need no second one"


def test_values_are_the_best_up_to_their_record():
    attack = always([0.3, 0.2, 0.4], heldout_loss=[0.5, 0.7, 0.1], accuracy=[0.5, 0.9, 0.7])
    swept = sweep([operator("it", attack)], TARGETS, keys=KEYS, least_loss=0.1)["it"]
    np.testing.assert_allclose(swept.left[0, 0, 0], [0.5, 0.25, 0.25])
    np.testing.assert_allclose(swept.heldout_left[0, 0, 0], [1.0, 1.0, 0.2])
    np.testing.assert_allclose(swept.accuracy[0, 0, 0], [0.5, 0.9, 0.9])
    np.testing.assert_allclose(swept.trace.loss[0, 0, 0], [0.3, 0.2, 0.4])


def test_the_least_loss_is_that_of_the_best_probe_or_of_whoever_found_a_lesser():
    for loss, expected in ((0.45, (0.45 - LEAST) / (0.5 - LEAST)), (LEAST / 2, 0.0)):
        swept = sweep([operator("it", always([loss]))], TARGETS, keys=KEYS)["it"]
        np.testing.assert_allclose(swept.left.ravel(), expected, atol=1e-12)
    logistic = [
        operator("good", always([0.5, 0.2]), loss=losses.logistic),
        operator("bad", always([0.6, 0.4]), loss=losses.logistic),
        operator("wild", always([0.1, 0.1], diverged=True), loss=losses.logistic),
    ]
    swept = sweep(logistic, TARGETS, keys=KEYS)
    np.testing.assert_allclose(swept["good"].left[0, 0, 0, -1], 0)
    np.testing.assert_allclose(swept["bad"].left[0, 0, 0, -1], 0.2 / (np.log(2) - 0.2))


def test_accuracy_of_targets_without_classes_is_nan_even_where_an_attack_diverged():
    attack = always([0.4, 0.4], accuracy=[np.nan, np.nan], diverged=[False, True])
    swept = sweep([operator("it", attack)], victims(classes=False), keys=KEYS)["it"]
    assert np.isnan(swept.accuracy).all()
    assert np.isnan(best(swept.accuracy, largest=True).mean).all()


def test_features_that_hold_nothing_of_the_targets_leave_nothing_to_learn():
    x, y = np.ones((4, 1)), np.array([1.0, -1.0, 1.0, -1.0])
    rounding = [0.5, 0.5 + 1e-16, 0.5 - 1e-16, 0.5 - 3e-16]
    swept = sweep([operator("it", always(rounding))], {"it": make_target(x, y)}, keys=KEYS)["it"]
    assert ((swept.left >= 0) & (swept.left <= 1)).all()


def test_best_is_by_the_mean_over_seeds_with_a_t_interval():
    rng = np.random.default_rng(0)
    values = rng.uniform(0, 1, (2, 4, 5, 3))
    for largest in (False, True):
        found = best(values, largest=largest)
        for e, r in np.ndindex(2, 3):
            means = values[e, :, :, r].mean(1)
            rate = means.argmax() if largest else means.argmin()
            assert found.rate[e, r] == rate
            low, high = scipy.stats.t.interval(0.95, 4, means[rate], scipy.stats.sem(values[e, rate, :, r]))
            np.testing.assert_allclose([found.mean[e, r], found.low[e, r], found.high[e, r]], [means[rate], low, high])


def test_best_of_one_seed_of_equal_seeds_of_divergence_and_of_nan():
    one = best(np.array([0.4, 0.2, 0.3]).reshape(1, 3, 1, 1))
    assert one == (0.2, 0.2, 0.2, 1)
    equal = best(np.full((1, 1, 3, 1), 0.25))
    assert equal == (0.25, 0.25, 0.25, 0)
    partly = best(np.array([[0.0, np.inf], [0.6, 0.8]]).reshape(1, 2, 2, 1))  # a rate with a diverged seed is out
    assert (partly.mean, partly.rate) == (0.7, 1)
    wholly = best(np.full((1, 2, 2, 1), np.inf))
    assert (wholly.mean, wholly.low, wholly.high) == (np.inf, np.inf, np.inf)
    nothing = best(np.full((1, 2, 2, 1), np.nan), largest=True)
    assert np.isnan([nothing.mean, nothing.low, nothing.high]).all()


def test_best_so_far_is_the_mean_over_all_orders():
    values = [0.9, 0.2, 1.4, np.inf, 0.2]
    orders = [np.minimum.accumulate(order) for order in itertools.permutations([0.9, 0.2, 1.0, 1.0, 0.2])]
    np.testing.assert_allclose(best_so_far(np.array(values)), np.mean(orders, axis=0))
    np.testing.assert_allclose(best_so_far(np.array([[0.3], [0.1]])), [0.2, 0.1])
    np.testing.assert_allclose(best_so_far(np.array([np.inf])), [1.0])


def interrupt(*_):
    raise KeyboardInterrupt


def test_an_interruption_is_raised_and_who_has_finished_is_not_run_again():
    first, second = operator("first", always([0.4])), operator("second", always([0.3]))
    told, kept = [], {}

    def keep(operator, trace):
        kept[operator.name] = trace

    whole = sweep([first, second], TARGETS, keys=KEYS, progress=told.append)
    assert (list(whole), told) == (["first", "second"], [1, 2])
    for stopped in ({"progress": interrupt}, {"operators": [first, operator("stopped", interrupt), second]}):
        kept.clear()
        with pytest.raises(KeyboardInterrupt):
            sweep(**{"operators": [first, second], "targets": TARGETS, "keys": KEYS, "finished": keep, **stopped})
        assert list(kept) == ["first"]
    never = operator("first", interrupt)
    again = sweep([never, second], TARGETS, keys=KEYS, done=dict(kept), finished=keep, progress=told.append)
    assert (list(kept), told) == (["first", "second"], [1, 2, 1, 2])
    for one, other in zip(again.values(), whole.values(), strict=True):
        np.testing.assert_array_equal(one.left, other.left)
    of_nobody_to_run = sweep([never], TARGETS, keys=KEYS, done=kept)
    assert list(of_nobody_to_run) == ["first"], "others that are finished are not asked for"


GOOD = {"operators": [operator("it", always([0.4]))], "targets": TARGETS, "keys": KEYS}
FIRST = TARGETS["undefended"]
OTHER_Y = FIRST._replace(fit=FIRST.fit._replace(y=-FIRST.fit.y))
BAD = {
    r"operators: is empty": {"operators": []},
    r"operators: two have the same name": {"operators": 2 * GOOD["operators"]},
    r"operators: .*different losses": {
        "operators": [*GOOD["operators"], operator("other", always([0.4]), loss=losses.logistic)]
    },
    r"targets: is empty": {"targets": {}},
    r"keys: .*\(\)": {"keys": KEYS[0]},
    r"keys: .*\(0,\)": {"keys": KEYS[:0]},
    r"keys: .*\(1, 3\)": {"keys": KEYS[None]},
    r"targets\['bad'\]\.fit\.y: is None": {"targets": {"bad": FIRST._replace(fit=FIRST.fit._replace(y=None))}},
    r"targets: have 2 different shapes": {
        "targets": {"a": FIRST, "b": FIRST.with_features(lambda x: x[:, :2])._replace(mapping=jnp.ones((3, 2)))}
    },
    r"targets: have 2 different shapes; ": {"targets": {"a": FIRST, "b": FIRST._replace(mapping=None)}},
    r"targets\['b'\]\.fit\.y: differs": {"targets": {"a": FIRST, "b": OTHER_Y}},
    r"targets\['b'\]\.heldout\.y: differs": {
        "targets": {"a": FIRST, "b": FIRST._replace(heldout=FIRST.heldout._replace(y=-FIRST.heldout.y))}
    },
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(message):
    with pytest.raises(InputError, match=f"^{message}"):
        sweep(**{**GOOD, **BAD[message]})


def test_features_that_cannot_be_decomposed_are_no_protection(monkeypatch):
    svd = protocol.svd
    monkeypatch.setattr(protocol, "svd", lambda x: jax.tree.map(lambda part: part * jnp.nan, svd(x)))
    x = np.random.default_rng(0).standard_normal((23, 3))  # of a shape that no other test has compiled
    target = make_target(x, np.sign(x[:, 0]), (x, np.sign(x[:, 0])), np.eye(3))
    with pytest.raises(InputError, match=r"^targets\['immunized'\].fit.x: .* does not converge"):
        sweep([operator("steps", always([0.4]))], {"immunized": target}, keys=KEYS)
