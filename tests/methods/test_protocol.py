"""Equal settings give the same method again, so that what is compiled stays compiled."""

import copy
import gc
import inspect
import pickle

import jax
import numpy as np
import optax
import pytest
from pairs import make_pair

from cimm_jax import InputError, immunize, losses, methods
from cimm_jax.methods.protocol import Method, reused

DIFFERENT = {
    "algorithm1": {"lambda_primary": 0.5},
    "ill_only": {"hessian": methods.HessianFrom.BATCH},
    "opt_kappa": {"loss": losses.logistic},
    "imma": {"lower_steps": 3},
    "pencil": {"objective": methods.SignalAware(horizon=7)},
    "pencil_signal": {"budget": 5.0},
    "pencil_no_slower": {"ridge": 0.1},
    "erase": {"keep": "covariance"},
    "best_response": {"lambda_harmful": 1.0},
    "hsic": {"lambda_harmful": None},
    "sophon": {"fine_tuning_steps": 2},
    "ntl": {"bound": 0.5},
    "encoderlock": {"share": 0.1},
    "undo": {"shrink": 0.3},
}


@pytest.mark.parametrize("name", methods.KNOWN)
def test_equal_settings_give_the_same_method(name):
    factory, settings = methods.KNOWN[name], DIFFERENT[name]
    assert factory() is factory()
    assert factory(**settings) is factory(**settings)
    assert factory(**settings) is not factory()


@pytest.mark.parametrize("name", methods.KNOWN)
def test_a_setting_at_its_default_is_the_same_as_one_left_out(name):
    factory = methods.KNOWN[name]
    defaults = {name: setting.default for name, setting in inspect.signature(factory).parameters.items()}
    for setting, default in defaults.items():
        assert factory(**{setting: default}) is factory()
    assert factory(**defaults) is factory(**dict(reversed(defaults.items()))) is factory()


def test_the_default_optimizer_may_be_spelt_out():
    for factory in (methods.algorithm1, methods.ill_only, methods.opt_kappa, methods.imma):
        assert factory(optimizer=methods.default_optimizer()) is factory()
        assert factory(optimizer=methods.default_optimizer(1e-2)) is not factory()


def test_the_order_and_the_type_of_numbers_are_no_settings():
    one = methods.algorithm1(lambda_primary=1, lambda_harmful=2.0)
    assert methods.algorithm1(lambda_harmful=np.float64(2), lambda_primary=1.0) is one
    with pytest.raises(TypeError, match=r"algorithm1\(\) got an unexpected keyword argument 'nonsense'"):
        methods.algorithm1(nonsense=1)


@pytest.mark.parametrize("name", methods.KNOWN)
def test_a_pickled_method_comes_back_as_the_same_one(name):
    for method in (methods.KNOWN[name](), methods.KNOWN[name](**DIFFERENT[name])):
        assert pickle.loads(pickle.dumps(method)) is method
        assert copy.deepcopy(method) is method


def test_a_method_that_was_changed_by_hand_is_not_pickled_as_what_it_was():
    method = methods.pencil()
    changed = method._replace(needs_targets=not method.needs_targets)
    plain = Method(method.init, method.step, method.extractor)
    for by_hand in (changed, plain):
        with pytest.raises(pickle.PicklingError, match="by hand"):
            pickle.dumps(by_hand)


def test_an_optimizer_that_is_the_same_is_an_equal_setting():
    optimizer = optax.sgd(1e-3)
    assert methods.algorithm1(optimizer=optimizer) is methods.algorithm1(optimizer=optimizer)
    assert methods.algorithm1(optimizer=optimizer) is not methods.algorithm1(optimizer=optax.sgd(1e-3))
    assert methods.default_optimizer() is methods.default_optimizer()


def test_settings_that_cannot_be_hashed_are_not_remembered():
    made = []

    @reused
    def factory(*, layers=()):
        """A method that does nothing."""
        made.append(layers)
        return Method(lambda key, pair: None, lambda state, batch: (state, None), lambda state: state)

    assert factory(layers=[1]) is not factory(layers=[1])
    assert factory(layers=(1,)) is factory(layers=(1,))
    assert made == [[1], [1], (1,)]
    assert factory.__doc__ == "A method that does nothing."


def test_what_is_refused_is_refused_again():
    for _ in range(2):
        with pytest.raises(InputError, match="lambda_harmful"):
            methods.ill_only(lambda_harmful=-1.0)


def test_a_loop_compiles_once_and_keeps_nothing(caplog):
    pair = make_pair()

    def run():
        immunize(methods.algorithm1(lambda_primary=0.37, optimizer=methods.default_optimizer()), pair, steps=4)
        gc.collect()
        return sum("Compiling" in record.message for record in caplog.records), len(jax.live_arrays())

    with jax.log_compiles(), caplog.at_level("WARNING", "jax"):
        found = [run() for _ in range(5)]
    assert found[0][0] > 0
    assert len(set(found)) == 1


def test_a_method_asked_for_again_is_not_compiled_again():
    traces = []

    def loss(scores, targets):
        traces.append(1)
        return losses.squared(scores, targets)

    def run(**settings):
        immunize(methods.algorithm1(loss=loss, **settings), make_pair(), steps=4, key=jax.random.key(len(traces)))
        return len(traces)

    first = run()
    assert first > 0
    assert run() == run() == first
    assert run(lambda_primary=0.5) > first, "else nothing was counted"
