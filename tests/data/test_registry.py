import subprocess
import sys

import jax
import numpy as np
import pytest

from cimm_jax import data
from cimm_jax.data import DATA_SETS, DataSet, load_digit_images, load_pair, registry
from cimm_jax.data.digit_pairs import split_pair
from cimm_jax.data.digit_tasks import DigitVersus, DigitVersusRest, SingleDigit
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

    loaders = {"digits": load} if kept.pair is None else {"pair": load}
    others = [known for known in DATA_SETS if known is not kept]
    monkeypatch.setattr(registry, "DATA_SETS", (*others, DataSet(kept.name, kept.description, **loaders)))
    return folders


def test_the_known_data_sets_have_one_loader_each():
    assert [known.name for known in DATA_SETS] == ["digits", "mnist", "house_prices"]
    assert all((known.digits is None) != (known.pair is None) for known in DATA_SETS)
    assert all(known.description and "\n" not in known.description for known in DATA_SETS)


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


@pytest.mark.parametrize("argument", ["primary", "harmful"])
def test_a_fixed_pair_takes_no_digits(argument):
    with pytest.raises(InputError, match=f"^{argument}: house_prices is one fixed pair, got '3'; leave it out$"):
        load_pair("house_prices", **{argument: "3"})


@pytest.mark.parametrize("argument", ["primary", "harmful"])
@pytest.mark.parametrize("text", ["3v3", ""])
def test_a_bad_digit_task_names_its_argument(argument, text):
    with pytest.raises(InputError, match=f"^{argument}: '{text}' is no digit task"):
        load_pair("digits", **{argument: text})


@pytest.mark.parametrize("load", [load_pair, load_digit_images])
def test_an_unknown_name_is_an_error_with_the_known_ones(load):
    with pytest.raises(InputError, match=r"^data: 'cifar' is unknown; choose one of digits, mnist, house_prices$"):
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
