"""What others add: found in a file or a package, imported when asked for, and one that is broken is one line."""

import hashlib
import inspect
import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from cimm_jax import plugins
from cimm_jax.errors import InputError

GROUP = "cimm_jax.methods"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Entry points of two packages: one that works, and one that raises when it is imported."""
    (tmp_path / "works_17.py").write_text("answer = 42\n")
    (tmp_path / "broken_17.py").write_text("raise RuntimeError('no\\nway')\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("mine", "works_17:answer", GROUP), EntryPoint("bad", "broken_17:answer", GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point for point in points if point.group == group])
    plugins._entry_points.cache_clear()
    yield
    plugins._entry_points.cache_clear()
    sys.modules.pop("works_17", None)


def test_names_of_entry_points_are_known_and_nothing_is_imported(installed):
    assert plugins.names(GROUP) == ("bad", "mine")
    assert plugins.names("cimm_jax.attackers") == ()
    assert "works_17" not in sys.modules


def test_an_entry_point_is_found_by_its_name_and_others_are_not(installed):
    assert plugins.find(GROUP, "mine", "method") == 42
    assert plugins.find(GROUP, "yours", "method") is None
    assert plugins.find("cimm_jax.attackers", "mine", "attackers") is None


def test_an_entry_point_that_cannot_be_imported_is_one_line_and_the_rest_works(installed, capsys):
    with pytest.raises(
        InputError, match=r"^method: 'bad' of broken_17:answer cannot be imported \(RuntimeError: no\)$"
    ):
        plugins.find(GROUP, "bad", "method")
    assert list(plugins.loadable(GROUP, "method")) == [("mine", 42)]
    assert capsys.readouterr().err == (
        "cimm: warning: method: 'bad' of broken_17:answer cannot be imported (RuntimeError: no); it is left out\n"
    )


def test_of_two_packages_with_one_name_the_first_in_the_alphabet_has_it(monkeypatch):
    points = [EntryPoint("same", f"{package}:x", GROUP) for package in ("b", "a", "c")]
    for order in (points, points[::-1]):
        monkeypatch.setattr(plugins, "entry_points", lambda group, order=order: order)
        plugins._entry_points.cache_clear()
        assert plugins._entry_points(GROUP)["same"].value == "a:x"
    plugins._entry_points.cache_clear()


def test_versions_of_what_was_found_differ(monkeypatch, tmp_path):
    point = SimpleNamespace(name="mine", value="m:x", dist=SimpleNamespace(name="theirs", version="2.1"))
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    plugins._entry_points.cache_clear()
    assert plugins.version_of(GROUP, "mine") == "theirs 2.1"
    assert plugins.version_of(GROUP, "yours") == ""
    plugins._entry_points.cache_clear()
    (tmp_path / "m.py").write_text("x = 1")
    plugins.find(GROUP, name := f"{tmp_path}/m.py:x", "method")
    assert plugins.version_of(GROUP, name) == hashlib.sha256(b"x = 1").hexdigest()


def test_something_in_a_file_is_found_and_its_checksum_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(plugins, "_loaded", {})
    path = tmp_path / "a+b c.py"
    path.write_text(
        "from dataclasses import dataclass\n\n@dataclass\nclass Thing:\n    x: 'int' = 3\n\nmade = Thing()\n"
    )
    thing = plugins.find(GROUP, f"{path}:made", "method")
    assert thing.x == 3
    assert thing is plugins.find(GROUP, f"{path}:made", "method"), "it is imported once"
    first = plugins.loaded()
    assert list(first) == [f"{path}:made"]
    path.write_text("made = 4\n")
    assert plugins.find(GROUP, f"{path}:made", "method") == 4, "what it holds now"
    assert plugins.loaded() != first
    assert list(tmp_path.iterdir()) == [path], "nothing is written beside it"


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (None, "made", "mine.py cannot be read (No such file or directory); give FILE.py:NAME, got"),
        ("def made(): pass", "other", "mine.py has no 'other'; it has made"),
        ("import math", "", "mine.py has no ''; it has nothing of its own"),
        ("import nowhere_to_be_found", "made", "(ModuleNotFoundError: No module named 'nowhere_to_be_found')"),
        ("def made(:", "made", "cannot be imported (SyntaxError: "),
        ("1 / 0", "made", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("raise SystemExit(0)", "made", "cannot be imported (SystemExit: 0)"),
        ("\0", "made", "cannot be imported (SyntaxError: "),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, content, name, said):
    path = tmp_path / "mine.py"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"^method: ") as refused:
        plugins.find(GROUP, f"{path}:{name}", "method")
    assert said in str(refused.value)
    assert str(path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_folder_is_no_file_and_a_record_s_name_opens_none(tmp_path):
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(InputError, match="a folder"):
        plugins.find(GROUP, f"{tmp_path}/folder.py:made", "method")
    (tmp_path / "mine.py").write_text("raise SystemExit")
    assert plugins.find(GROUP, f"{tmp_path}/mine.py:made", "data", files=False) is None


def made_by(path, text):
    path.write_text(text)
    return plugins.factory(GROUP, f"{path}:make", "method", lambda made: isinstance(made, int), "a number")


def test_a_function_of_others_keeps_its_settings_and_is_the_same_again(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('def make(*, size: int = 2):\n    """Makes one."""\n    return size\n')
    makes = [plugins.factory(GROUP, f"{path}:make", "method", callable, "a number") for _ in range(2)]
    assert makes[0] is makes[1]
    assert list(inspect.signature(makes[0]).parameters) == ["size"]
    assert makes[0].__doc__ == "Makes one."
    assert made_by(path, "def make(size=2): return size")(size=5) == 5
    assert plugins.factory(GROUP, "nobody", "method", callable, "a number") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("make = 3", "needs to be a function that returns a number, and is int"),
        ("make = dict", "needs to be a function that returns a number, and is type"),
        ("def make(): return 'x'", "needs to return a number, and returned str"),
        (
            "def make(size): return size",
            "cannot make a number (TypeError: make() missing 1 required positional argument",
        ),
        ("def make(): raise KeyError", "cannot make a number (KeyError: KeyError)"),
    ],
)
def test_what_makes_something_else_is_one_line(tmp_path, text, said):
    with pytest.raises(InputError, match=r"^method: .*mine.py:make") as refused:
        made_by(tmp_path / "mine.py", text)()
    assert said in str(refused.value)


def test_bad_input_that_a_function_of_others_finds_is_told_in_its_words(tmp_path):
    text = "from cimm_jax import InputError\ndef make(): raise InputError('size: is too small')"
    with pytest.raises(InputError, match=r"^size: is too small$"):
        made_by(tmp_path / "mine.py", text)()
