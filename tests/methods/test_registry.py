"""Methods by name, each with the settings that it has."""

import pytest

from cimm_jax import InputError, losses, methods, plugins
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
        match=r"^method: 'magic' is unknown; choose one of algorithm1, .*encoderlock, undo, or give FILE.py:NAME$",
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


OWN = '''
from cimm_jax import methods

def mine(*, budget: float = 10.0):
    """A method of somebody's own."""
    return methods.pencil(budget=budget)

def other():
    return "theta"
'''


def test_a_method_in_a_file_is_built_with_its_settings_beside_those_of_the_house(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    made = build_methods([f"{path}:mine", "ill_only"], {"budget": 5.0, "lambda_harmful": 0.5})
    assert made[f"{path}:mine"] is methods.pencil(budget=5.0)
    assert made["ill_only"] is methods.ill_only(lambda_harmful=0.5)
    with pytest.raises(InputError, match=r"^ridge: is no setting of .*own.py:mine"):
        build_methods([f"{path}:mine"], {"ridge": 5.0})
    with pytest.raises(
        InputError, match=r"^method: .*own.py:other needs to return a cimm_jax.methods.Method, and returned str$"
    ):
        build_methods([f"{path}:other"], {})


def test_a_method_of_a_package_is_known_by_name_and_those_of_the_house_come_first(monkeypatch):
    found = {"mine": lambda: methods.pencil(budget=3.0), "pencil": methods.imma}
    monkeypatch.setattr(plugins, "names", lambda group: tuple(found))
    monkeypatch.setattr(plugins, "find", lambda group, text, argument: found.get(text))
    assert methods.method_names() == (*methods.KNOWN, "mine")
    assert methods.by_name("mine")() is methods.pencil(budget=3.0)
    assert methods.by_name("pencil") is methods.pencil
    with pytest.raises(InputError, match="undo, mine, or give FILE"):
        methods.by_name("magic")
