import numpy as np
import pytest

from cimm_jax import InputError, attacks, losses, plugins
from cimm_jax.attacks import (
    SOLVERS,
    Operator,
    known_optimizers,
    log_spaced_steps,
    normal_equations,
    solver_names,
    standard_names,
    standard_operators,
)
from cimm_jax.attacks._linear_probe import QUADRATIC_ONLY
from cimm_jax.attacks.catalogue import AFFORDABLE
from cimm_jax.attacks.optimizers import check_optimizer, has_rate


def named(*names, **settings):
    return {operator.name: operator for operator in standard_operators(names, **settings)}


def test_the_standard_attackers_can_be_asked_for_by_name():
    assert [operator.name for operator in standard_operators()] == list(attacks.STANDARD)
    assert len(set(attacks.STANDARD)) == len(attacks.STANDARD)


@pytest.mark.parametrize("affordable", [False, True])
@pytest.mark.parametrize("loss", [losses.squared, losses.logistic, losses.softmax])
def test_the_standard_attackers_of_a_loss_can_minimise_it(loss, affordable):
    names = standard_names(loss, affordable=affordable)
    assert [operator.name for operator in standard_operators(names, loss=loss)] == list(names)
    exact = [name for name in names if name.split(" + ")[-1] in QUADRATIC_ONLY]
    assert bool(exact) == (loss is losses.squared)
    for kind in (attacks.GRADIENT, attacks.ADAPTIVE):
        assert set(names) & set(kind), "both kinds are there"


def test_the_standard_attackers_are_all_there_are_for_the_squared_loss():
    assert standard_names() == attacks.STANDARD
    assert standard_names(affordable=True) == AFFORDABLE
    assert set(AFFORDABLE) < set(attacks.STANDARD)
    assert "whiten + lbfgs" in standard_names(losses.logistic)


@pytest.mark.parametrize("affordable", [False, True])
def test_where_no_extractor_is_a_map_there_is_none_to_undo(affordable):
    every, without = (standard_names(affordable=affordable, maps=maps) for maps in (True, False))
    assert set(every) - set(without) == {name for name in every if name.startswith("undo the map")} != set()


def test_every_operator_says_at_which_steps_it_records():
    every = named(
        "adam", "sgd", "newton", "whiten + line_search", steps=30, record_at=[1, 7, 30], schedules=("cosine",)
    )
    assert {operator.records for operator in every.values()} == {(1, 7, 30)}
    assert named("adam", steps=30)["adam"].records == log_spaced_steps(30)
    assert Operator("mine", lambda key, target, rate: None).records == (), "nobody says"


def test_every_optimizer_known_is_accepted_and_transformations_are_not_among_them():
    known = known_optimizers()
    assert {"adam", "adamw", "muon", "lion", "gd", "sgd", "lbfgs", "line_search", "conjugate_gradient"} <= set(known)
    assert not [name for name in known if name.startswith(("_", "scale_by_"))]
    for name in known:
        check_optimizer(name)
        assert [operator.name for operator in standard_operators([name])] == [name]


def test_rates_are_a_grid_in_equal_ratios_or_those_given():
    grids = named("gd", "adam", "line_search", rates=5)
    for name, ends in {"gd": (0.03, 3), "adam": (1e-4, 10)}.items():
        rates = np.array(grids[name].rates)
        np.testing.assert_allclose(rates[[0, -1]], ends)
        np.testing.assert_allclose(rates[1:] / rates[:-1], (ends[1] / ends[0]) ** 0.25)
    assert grids["line_search"].rates == (1.0,)
    given = named("standardise + adam", "newton", rates=[1, 0.1])
    assert (given["standardise + adam"].rates, given["newton"].rates) == ((1.0, 0.1), (1.0,))
    assert len(named("momentum", rates=1)["momentum"].rates) == 1


def test_the_same_settings_give_the_same_attackers_which_are_then_compiled_already():
    names = ("adam", "whiten + line_search", "newton")
    first, again = (standard_operators(list(names), steps=5, rates=[0.1], record_at=[5]) for _ in range(2))
    assert [operator.attack for operator in first] == [operator.attack for operator in again]
    for other in ({"steps": 6}, {"steps": 5, "loss": losses.logistic}, {"steps": 5, "schedules": ("cosine",)}):
        (operator,) = standard_operators(("adam",), rates=[0.1], **other)
        assert operator.attack is not first[0].attack


def test_schedules_are_tried_where_there_is_a_rate():
    found = named("adam", "lbfgs", "newton", "whiten + sgd", schedules=("constant", "cosine", "warmup"))
    assert list(found) == [
        "adam",
        "adam (cosine)",
        "adam (warmup)",
        "lbfgs",
        "newton",
        "whiten + sgd",
        "whiten + sgd (cosine)",
        "whiten + sgd (warmup)",
    ]


def test_traits():
    found = named("adam", "sgd", "lbfgs", "random start + adam", "whiten 3 + sgd", "undo the map + newton")
    traits = {name: (operator.has_rate, operator.random, operator.adaptive) for name, operator in found.items()}
    assert traits == {
        "adam": (True, False, False),
        "sgd": (True, True, False),
        "lbfgs": (False, False, True),
        "random start + adam": (True, True, False),
        "whiten 3 + sgd": (True, True, True),
        "undo the map + newton": (False, False, True),
    }
    assert has_rate("adam")
    assert not has_rate("optimal_constant")


def test_the_loss_is_that_of_every_operator():
    for operator in named("adam", "newton", "normal equations", loss=losses.logistic).values():
        assert operator.loss is losses.logistic


BAD = {
    r"attackers: is empty": {"names": ()},
    r"attackers: 'adamm' is unknown; .*newton.*adam": {"names": ["adamm"]},
    r"attackers: 'polish' of 'polish \+ adam' is unknown; .*whiten K": {"names": ["polish + adam"]},
    r"attackers: 'whiten x' of": {"names": ["whiten x + adam"]},
    r"attackers: 'whiten \+ standardise \+ adam'": {"names": ["whiten + standardise + adam"]},
    r"attackers: newton has no start": {"names": ["random start + newton"]},
    r"random_start: lbfgs": {"names": ["random start + lbfgs"]},
    r"top_k: .*0": {"names": ["whiten 0 + adam"]},
    r"schedules: is empty": {"schedules": ()},
    r"schedule: 'linear' is unknown": {"schedules": ["linear"]},
    r"rates: needs at least 1, got 0": {"rates": 0},
    r"rates: gd needs positive finite": {"names": ["gd"], "rates": []},
    r"rates: gd needs .*0\.0": {"names": ["gd"], "rates": [1.0, 0.0]},
    r"rates: gd needs .*-1\.0": {"names": ["gd"], "rates": [-1.0]},
    r"rates: gd needs .*inf": {"names": ["gd"], "rates": [float("inf")]},
    r"rates: gd needs .*nan": {"names": ["gd"], "rates": [float("nan")]},
    r"steps: .*0": {"steps": 0},
    r"record_at": {"record_at": (2000,)},
    r"loss: newton": {"names": ["newton"], "loss": losses.softmax},
    r"loss: needs": {"loss": "squared"},
    r"optimizer: line_search is exact": {"loss": losses.logistic},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_requests_are_refused(message):
    with pytest.raises(InputError, match=f"^{message}"):
        standard_operators(**BAD[message])


def test_an_operator_of_one_s_own_needs_rates_too():
    with pytest.raises(InputError, match=r"^rates: mine needs .*\(\)"):
        Operator("mine", lambda key, target, rate: None, rates=())


OWN = '''
from cimm_jax.attacks import normal_equations

def mine(**settings):
    """An attacker of somebody's own."""
    return normal_equations(**settings)

def other(*, steps, loss, record_at):
    return steps
'''


def test_an_attacker_in_a_file_is_an_operator_alone_and_prepared_and_the_same_again(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    names = [f"{path}:mine", f"whiten + {path}:mine", "newton"]
    first, second = (standard_operators(names, steps=3) for _ in range(2))
    assert [operator.name for operator in first] == names
    assert all(one.attack is other.attack for one, other in zip(first, second, strict=True)), "nothing compiles again"
    assert first[0].adaptive
    assert not first[0].has_rate
    path.write_text(OWN + "\n# changed\n")
    assert standard_operators(names[:1], steps=3)[0].attack is not first[0].attack
    with pytest.raises(InputError, match=r"own.py:other needs to return an attack, \(key, target, rate\) -> Trace"):
        standard_operators([f"{path}:other"])
    with pytest.raises(InputError, match=r"^attackers: .*gone.py cannot be read"):
        standard_operators([f"{tmp_path}/gone.py:mine"])


def test_an_attacker_of_a_package_is_known_by_name(monkeypatch):
    found = {"mine": normal_equations}
    monkeypatch.setattr(plugins, "names", lambda group: tuple(found))
    monkeypatch.setattr(plugins, "find", lambda group, text, argument: found.get(text))
    assert solver_names() == (*SOLVERS, "mine")
    (operator,) = standard_operators(["mine"], steps=3)
    assert operator.name == "mine"
    with pytest.raises(InputError, match="normal equations, mine"):
        standard_operators(["magic"])
