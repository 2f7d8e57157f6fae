"""Equal settings give the same method again, so that what is compiled stays compiled."""

import jax
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
}


@pytest.mark.parametrize("name", methods.KNOWN)
def test_equal_settings_give_the_same_method(name):
    factory, settings = methods.KNOWN[name], DIFFERENT[name]
    assert factory() is factory()
    assert factory(**settings) is factory(**settings)
    assert factory(**settings) is not factory()


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
