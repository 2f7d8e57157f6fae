"""A file of settings: read by the flags' names, what it cannot hold is one line, and what a run writes makes it again."""

from dataclasses import replace
from pathlib import Path

import pytest

from cimm_jax.commands import cli
from cimm_jax.commands.config_file import read_config, write_config
from cimm_jax.commands.delivery import manifest_of
from cimm_jax.commands.settings import Attack, Immunize, Sweep
from cimm_jax.errors import InputError


@pytest.fixture
def asked(monkeypatch, capsys):
    """Gives the settings that a command line asks for, or the line that refuses it."""

    def of(*words: str):
        told = []
        monkeypatch.setattr(cli, "_run", told.append)
        status = cli.main(list(words))
        error = capsys.readouterr().err
        assert (status, len(error.splitlines()), len(told)) in ((0, 0, 1), (2, 1, 0))
        return told[0] if told else error

    return of


def test_the_defaults_are_written_too_and_where_it_went_is_not(tmp_path):
    text = write_config(tmp_path, manifest_of(Immunize(out=Path("x"), json=True, steps=7))).read_text()
    assert text.startswith("# cimm immunize --config config.toml --out DIR runs this again.\n")
    assert 'method = "algorithm1"\n' in text
    assert "seed = 0\n" in text
    assert "steps = 7\n" in text
    assert not {"out", "json", "config"} & {line.partition(" ")[0] for line in text.splitlines()}


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path, asked):
    path = tmp_path / "mine.toml"
    path.write_text('steps = 7\nbatch-size = 16\nlambda_primary = 2\nseed = 5\njson = true\nout = "there"\n')
    config = ("--config", str(path))
    expected = Immunize(steps=7, batch_size=16, lambda_primary=2.0, seed=5, json=True, out=Path("there"))
    assert asked("immunize", *config) == expected, "and nothing says where it was read"
    assert asked("immunize", "--steps", "300", *config, "--seed", "0", "--no-json") == replace(
        expected, steps=300, seed=0, json=False
    ), "also where a flag gives the default"
    assert asked("immunize", *config, "--json", "--quiet") == expected, "switches that are on already"
    assert asked("immunize", *config, "--batch-size", "None").batch_size is None
    path.write_text('runs = ["a", "b"]\nattackers = ["adam"]\nattack-rates = [1, 0.5]\n')
    found = Attack(runs=(Path("a"), Path("b")), attackers=("adam",), attack_rates=(1.0, 0.5))
    assert asked("attack", *config) == found
    assert asked("attack", "c", *config) == replace(found, runs=(Path("c"),))


@pytest.mark.parametrize("verb", ["attack", "diagnose", "immunize", "report", "sweep"])
def test_every_command_that_has_a_run_folder_reads_one(tmp_path, asked, verb):
    path = tmp_path / "mine.toml"
    path.write_text("seed = 11\n")
    assert asked(verb, "--config", str(path)).seed == 11


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stepz = 3", "has 'stepz', which is no flag of cimm immunize; did you mean steps"),
        ("lamda-harmful = 3", "did you mean lambda-harmful or harmful or lambda-primary?"),
        ("qqqqqqqq = 3", "which is no flag of cimm immunize; see cimm immunize --help"),
        ("[immunize]\nsteps = 3", "has 'immunize', which is no flag of cimm immunize"),
        ('config = "other.toml"', "has 'config', which is no flag"),
        ('steps = "3"', "has steps = '3', which cannot be used (needs int, got str"),
        ("steps = 3.5", "needs int, got float"),
        ("steps = true", "needs int, got bool"),
        ("json = 1", "needs bool, got int"),
        ("method = 3", "needs str, got int"),
        ('lambda-primary = "x"', "needs a number, got str"),
        ('hessian = "all"', "has hessian = 'all', which cannot be used"),
        ("primary-no-slower-at = 10", "needs a list, got int"),
        ('primary-no-slower-at = [10, "x"]', "needs int, got str"),
        ("batch-size = 3\nbatch_size = 4", "has batch-size with - and with _; give it once"),
        ("steps = 3\nsteps = 4", "is no TOML (Cannot overwrite a value"),
        ("steps = ", "is no TOML (Invalid value"),
        ("\udcff", "is no TOML ("),
        ("a = " + "[" * 100_000, "is no TOML ("),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_that_names_what_is_near(tmp_path, asked, text, said):
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    error = asked("immunize", "--config", str(path))
    assert error.startswith(f"cimm: --config: {path} ")
    assert said in error


def test_a_file_that_is_not_there_is_one_line(tmp_path, asked):
    assert "gone.toml cannot be read (No such file or directory)" in asked("sweep", "--config", f"{tmp_path}/gone.toml")
    assert "a folder" in asked("sweep", "--config", str(tmp_path))


def test_settings_of_the_wrong_command_are_named(tmp_path):
    path = write_config(tmp_path, manifest_of(Sweep()))
    with pytest.raises(InputError, match="'kind', which is no flag of cimm immunize"):
        read_config(path, Immunize)
