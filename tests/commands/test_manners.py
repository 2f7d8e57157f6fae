"""How much a command says, which version it is, and that a run folder's config.toml runs it again."""

import json
import re

import pytest

import cimm_jax
from cimm_jax.commands import cli
from cimm_jax.commands import list as list_command
from cimm_jax.errors import InputError
from cimm_jax.verbosity import Level, level

pytestmark = pytest.mark.usefixtures("standard_promotion")

QUICK = ["immunize", "--method", "pencil", "--ridge", "0.1", "--resamples", "20"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("made")
    assert cli.main(["--quiet", *QUICK, "--seed", "3", "--out", str(folder)]) == 0
    return folder


def results(folder):
    """Of a run, but for where it went."""
    content = json.loads((folder / "results.json").read_text())
    content["manifest"]["settings"].pop("out")
    return content


def test_config_toml_runs_it_again_and_the_result_is_the_same(made, tmp_path):
    assert cli.main(["immunize", "--config", str(made / "config.toml"), "--quiet", "--out", str(tmp_path)]) == 0
    assert results(tmp_path) == results(made)
    for name in ("config.toml", "theta.safetensors"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


def test_the_quiet_print_nothing_and_write_everything(made, tmp_path, capfd):
    assert cli.main([*QUICK, "--seed", "3", "--out", str(tmp_path), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert results(tmp_path) == results(made)
    assert (tmp_path / "immunize.png").exists()
    assert level() is Level.NORMAL, "the next command says as much as ever"
    assert cli.main(["immunize", "--method", "nonsense", "--quiet"]) == 2
    assert capfd.readouterr().err.startswith("cimm: --method: 'nonsense' is unknown")


def test_the_quiet_who_ask_for_json_get_it(made, tmp_path, capfd):
    assert cli.main(["report", str(made), "--out", str(tmp_path), "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert cli.main(["report", str(made), "--out", str(tmp_path), "--quiet", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["manifest"]["command"] == "report"


def test_the_verbose_say_what_is_run_and_where_an_error_came_from(made, tmp_path, capfd):
    words = ["report", str(made), "--out", str(tmp_path), "--verbose"]
    assert cli.main(words) == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == f"cimm: cimm report {made}"
    assert f"cimm_jax {cimm_jax.__version__}" in lines[1]
    assert lines[2].startswith("cimm: on ")
    assert cli.main(["--verbose", "immunize", "--method", "nonsense"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert "Traceback (most recent call last):" in lines
    assert any("registry.py" in line for line in lines)
    assert lines[-1].startswith("cimm: --method: 'nonsense' is unknown")


def test_quiet_and_verbose_contradict_each_other(capsys):
    assert cli.main(["--quiet", "list", "--verbose"]) == 2
    assert capsys.readouterr().err == "cimm: --quiet: --verbose was given as well; give one of them\n"


@pytest.mark.parametrize("words", [["--version"], ["immunize", "--version"], ["--version", "nonsense"]])
def test_the_version_is_one_line_and_nothing_is_run(words, capsys):
    assert cli.main(words) == 0
    assert capsys.readouterr() == (f"cimm {cimm_jax.__version__}\n", "")


def test_a_shell_gets_its_completion(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--tyro-print-completion", "bash"])
    assert not ended.value.code
    printed = capsys.readouterr().out
    for word in ("immunize", "--lambda-harmful", "--quiet", "--config"):
        assert word in printed


def test_everything_that_can_be_asked_for_is_listed_in_a_line(capsys):
    assert cli.main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in (
        "algorithm1",
        "hsic",
        "undo",
        "newton",
        "adam",
        "line_search",
        "kernel ridge",
        "house_prices",
        "mlp_digits",
    ):
        assert len(re.findall(rf"^  {name}  +\S.*$", printed, flags=re.MULTILINE)) == 1, name
    assert [line.partition(" ")[0] for line in printed.splitlines() if line and line[0] != " "] == list(
        list_command.LISTS
    )


def test_what_is_listed_is_known_and_described(capsys):
    assert cli.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == list(list_command.LISTS)
    assert list(found["methods"]) == list(cimm_jax.methods.method_names())
    assert set(found["attackers"]) == {*cimm_jax.attacks.solver_names(), *cimm_jax.attacks.known_optimizers()}
    for kind, lines in found.items():
        for name, line in lines.items():
            assert len(line) > 5, (kind, name)
            assert "\n" not in line


def test_a_list_of_one_kind_is_that_kind_alone(capsys):
    assert cli.main(["list", "data", "heads"]) == 0
    printed = capsys.readouterr().out
    assert "scikit-learn" in printed
    assert "perceptron" in printed
    assert "algorithm1" not in printed


def test_what_packages_add_is_listed_and_what_is_broken_is_named(capsys, monkeypatch):
    def found(group, text, argument, *, files):
        if text == "broken":
            raise InputError(f"{argument}: 'broken' of pkg cannot be imported (ImportError: no)")
        return test_a_list_of_one_kind_is_that_kind_alone

    names = {"cimm_jax.methods": ("algorithm1", "broken", "theirs"), "cimm_jax.networks": ("broken",)}
    monkeypatch.setattr("cimm_jax.plugins.names", lambda group: names.get(group, ()))
    monkeypatch.setattr("cimm_jax.plugins.find", found)
    assert cli.main(["list", "--json"]) == 0
    printed = capsys.readouterr()
    listed = json.loads(printed.out)
    assert "theirs" in listed["methods"]
    assert listed["methods"]["algorithm1"].startswith("The paper's method"), "the house's own come first"
    assert "broken" not in {*listed["methods"], *listed["networks"]}
    assert printed.err.splitlines() == [
        "cimm: warning: method: 'broken' of pkg cannot be imported (ImportError: no); it is left out",
        "cimm: warning: model: 'broken' of pkg cannot be imported (ImportError: no); it is left out",
    ]
