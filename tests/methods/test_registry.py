"""Methods by name, each with the settings that it has."""

import pytest

from cimm_jax import InputError, losses, methods
from cimm_jax.methods import build_methods


def test_every_method_that_is_known_has_a_name_and_one_only():
    assert list(methods.KNOWN) == [*methods.BY_NAME, *methods.PRESETS, *methods.REMOVING]
    assert len(methods.KNOWN) == len(methods.BY_NAME) + len(methods.PRESETS) + len(methods.REMOVING)
    for name, factory in methods.KNOWN.items():
        assert methods.by_name(name) is factory
        assert isinstance(factory(), methods.Method)
        assert factory.__name__ == name


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        InputError,
        match=r"^method: 'magic' is unknown; choose one of algorithm1, .*pencil_no_slower, erase, best_response, hsic, sophon$",
    ):
        methods.by_name("magic")
    with pytest.raises(InputError, match="'magic' is unknown"):
        build_methods(["algorithm1", "magic"], {})


def test_each_method_gets_the_settings_that_it_has():
    made = build_methods(["algorithm1", "pencil"], {"budget": 5.0, "lambda_primary": 0.5})
    assert list(made) == ["algorithm1", "pencil"]
    assert made["algorithm1"] is methods.algorithm1(lambda_primary=0.5)
    assert made["pencil"] is methods.pencil(budget=5.0)


def test_defaults_are_for_those_that_have_them_and_what_is_given_comes_first():
    defaults = {"loss": losses.logistic, "budget": 7.0, "nobody": 1}
    made = build_methods(["ill_only", "pencil"], {"budget": 5.0}, defaults)
    assert made["ill_only"] is methods.ill_only(loss=losses.logistic)
    assert made["pencil"] is methods.pencil(budget=5.0)


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        ([], {}, "^methods: is empty"),
        (["pencil", "imma", "pencil"], {}, "^methods: pencil, imma, pencil repeats a name"),
        (["algorithm1", "ill_only"], {"budget": 5.0}, "^budget: is no setting of algorithm1 or ill_only"),
        (["pencil"], {"budget": 0.5}, "^budget: needs"),
    ],
)
def test_what_cannot_be_built_is_refused(names, given, message):
    with pytest.raises(InputError, match=message):
        build_methods(names, given)
