import subprocess
import sys

import jax
import numpy as np
import pytest

from cimm_jax import data, plugins
from cimm_jax.data import DATA_SETS, DataSet, load_benign, load_digit_images, load_pair, registry, task_names
from cimm_jax.data.digit_pairs import split_pair, split_task
from cimm_jax.data.digit_tasks import DigitVersus, DigitVersusRest, SingleDigit, parse_digit_task
from cimm_jax.errors import InputError


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def recorded(monkeypatch, name, result):
    """Replaces one data set's loader by one that records the folder that it is given."""
    folders = []
    kept = next(known for known in DATA_SETS if known.name == name)

    def load(folder):
        folders.append(folder)
        return result

    loaders = {"digits": load} if kept.pair is None else {"pair": load, "benign": load, "tasks": kept.tasks}
    others = [known for known in DATA_SETS if known is not kept]
    monkeypatch.setattr(registry, "DATA_SETS", (*others, DataSet(kept.name, kept.description, **loaders)))
    return folders


def test_the_known_data_sets_have_one_loader_each():
    assert [known.name for known in DATA_SETS] == ["digits", "mnist", "house_prices"]
    assert all((known.digits is None) != (known.pair is None) for known in DATA_SETS)
    assert all(known.description and "\n" not in known.description for known in DATA_SETS)
    assert all(known.tasks is None for known in DATA_SETS if known.pair is None), "digits name their own tasks"


@pytest.mark.parametrize(
    ("texts", "tasks"),
    [
        ({}, (DigitVersus(0, 1), DigitVersus(2, 3))),
        ({"primary": "7"}, (SingleDigit(7), DigitVersus(2, 3))),
        ({"harmful": "3vrest"}, (DigitVersus(0, 1), DigitVersusRest(3))),
    ],
)
def test_pairs_of_digits_by_name(texts, tasks):
    equal(load_pair("digits", **texts), split_pair(load_digit_images("digits"), *tasks))


def test_the_folder_reaches_the_loader_as_a_path(monkeypatch, tmp_path):
    images = load_digit_images("digits")
    folders = recorded(monkeypatch, "mnist", images)
    assert load_digit_images("mnist", data_dir=str(tmp_path)) is images
    equal(load_pair("mnist", data_dir=tmp_path, primary="4"), split_pair(images, SingleDigit(4), DigitVersus(2, 3)))
    assert load_digit_images("mnist") is images
    assert folders == [tmp_path, tmp_path, None]


def test_a_fixed_pair_is_given_as_it_is(monkeypatch, tmp_path):
    pair = object()
    folders = recorded(monkeypatch, "house_prices", pair)
    assert load_pair("house_prices", data_dir=tmp_path) is pair
    assert load_pair("house_prices") is pair
    assert folders == [tmp_path, None]


# --- the benign task ---


@pytest.mark.parametrize(
    ("texts", "third"),
    [
        ({}, "4v5"),
        ({"primary": "4v9"}, "0v1"),
        ({"primary": "0", "harmful": "2"}, "1v3"),
        ({"benign": "7"}, "7"),
        ({"benign": "4v9", "rows": 15}, "4v9"),
    ],
)
def test_the_benign_task_has_no_digit_of_the_pair(texts, third):
    found = load_benign("digits", **texts)
    equal(found, split_task(load_digit_images("digits"), parse_digit_task(third, "benign"), texts.get("rows")))
    pair = (
        parse_digit_task(texts.get(side, default), side) for side, default in (("primary", "0v1"), ("harmful", "2v3"))
    )
    assert not parse_digit_task(third, "benign").digits() & set.union(*(task.digits() for task in pair))


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        ({"benign": "4v2"}, "benign: 4v2 has digits of the pair; choose among 4, 5, 6"),
        ({"benign": "4v"}, "benign: '4v' is"),
    ],
)
def test_a_benign_task_that_shares_a_digit_or_is_none_is_refused(texts, named):
    for ask in (load_benign, task_names):
        with pytest.raises(InputError, match=f"^{named}"):
            ask("digits", **texts)


def test_a_pair_of_all_digits_leaves_none():
    assert load_benign("digits", harmful="3vrest") is None
    assert task_names("digits", harmful="3vrest").benign is None


def test_a_fixed_pair_s_benign_task_is_given_as_it_is_or_there_is_none(monkeypatch, tmp_path):
    task = object()
    folders = recorded(monkeypatch, "house_prices", task)
    assert load_benign("house_prices", data_dir=tmp_path) is task
    assert folders == [tmp_path]
    bare = DataSet("house_prices", "a pair alone", pair=lambda folder: task)
    monkeypatch.setattr(registry, "DATA_SETS", (bare,))
    assert load_benign("house_prices") is None
    assert task_names("house_prices") == ("primary task", "harmful task", "benign task")


def test_what_people_call_the_tasks():
    assert task_names("digits") == (
        "digit 0 against digit 1",
        "digit 2 against digit 3",
        "digit 4 against digit 5",
    )
    assert task_names("mnist", primary="7", harmful="3v2", benign="8v9") == (
        "images of digit 7",
        "digit 3 against digit 2",
        "digit 8 against digit 9",
    )
    houses = task_names("house_prices")
    assert ("lot area" in houses.primary, "sale price" in houses.harmful, "quality" in houses.benign) == (True,) * 3


# --- what is refused ---


@pytest.mark.parametrize("argument", ["primary", "harmful", "benign"])
def test_a_fixed_pair_takes_no_digits(argument):
    with pytest.raises(InputError, match=f"^{argument}: house_prices is one fixed pair, got '3'; leave it out$"):
        load_benign("house_prices", **{argument: "3"})
    if argument != "benign":
        with pytest.raises(InputError, match=f"^{argument}: house_prices is one fixed pair"):
            load_pair("house_prices", **{argument: "3"})
    with pytest.raises(InputError, match=f"^{argument}: house_prices is one fixed pair"):
        task_names("house_prices", **{argument: "3"})


def test_a_fixed_pair_has_all_its_rows():
    for load in (load_pair, load_benign):
        with pytest.raises(InputError, match=r"^rows: house_prices is one fixed pair, got 5"):
            load("house_prices", rows=5)


@pytest.mark.parametrize("argument", ["primary", "harmful"])
@pytest.mark.parametrize("text", ["3v3", ""])
def test_a_bad_digit_task_names_its_argument(argument, text):
    with pytest.raises(InputError, match=f"^{argument}: '{text}' is no digit task"):
        load_pair("digits", **{argument: text})


@pytest.mark.parametrize("load", [load_pair, load_benign, task_names, load_digit_images])
def test_an_unknown_name_is_an_error_with_the_known_ones(load):
    with pytest.raises(
        InputError, match=r"^data: 'cifar' is unknown; choose one of digits, mnist, house_prices, or for own features "
    ):
        load("cifar")


def test_a_data_set_without_digits_cannot_be_swept():
    with pytest.raises(InputError, match=r"^data: house_prices has no images of digits; choose one of digits, mnist$"):
        load_digit_images("house_prices")


@pytest.mark.parametrize("load", [load_pair, load_digit_images])
@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_folder_that_is_none_is_named(load, tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"^--data-dir: {tmp_path / name} is not a folder; give"):
        load("mnist", data_dir=tmp_path / name)


def test_a_folder_for_embedded_data_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"^--data-dir: digits are embedded and read no files"):
        load_pair("digits", data_dir=tmp_path)


def test_public_names_exist():
    assert all(hasattr(data, name) for name in data.__all__)


def test_importing_the_package_loads_no_loader_library():
    script = "import sys, cimm_jax.data; print({'sklearn', 'pandas', 'tensorflow_datasets'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_package_adds_data_sets_and_no_file_does(monkeypatch):
    flipped = DataSet("flipped", "digits upside down", digits=lambda folder: load_digit_images("digits"))
    added = {"flipped": flipped, "wrong": 3}
    monkeypatch.setattr(plugins, "names", lambda group: tuple(added))
    monkeypatch.setattr(plugins, "find", lambda group, text, argument, *, files: None if files else added.get(text))
    assert data.data_names()[-2:] == ("flipped", "wrong")
    equal(load_pair("flipped"), load_pair("digits"))
    with pytest.raises(InputError, match=r"^data: wrong needs to be a cimm_jax.data.DataSet, and is int$"):
        load_pair("wrong")
    with pytest.raises(InputError, match=r"choose one of digits, .*, flipped, wrong"):
        load_pair("x.py:flipped")
