"""What can be asked: settings of another kind of run are refused, methods get their own, command lines ask for the same run."""

import ast
import re
import shlex
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest
import tyro
from sample_records import ATTACK, BLOCKS, DIAGNOSE, IMMUNIZE, MAP, OWN, OWN_ATTACK, SWEEP

import cimm_jax
from cimm_jax import InputError
from cimm_jax.commands import settings
from cimm_jax.commands.cli import Command
from cimm_jax.commands.config_file import read_config, write_config
from cimm_jax.commands.delivery import command_line, manifest_of
from cimm_jax.commands.settings import (
    Attack,
    Diagnose,
    Export,
    Immunize,
    List,
    Report,
    Reproduce,
    Sweep,
    parse_budget,
    refuse_foreign,
)
from cimm_jax.methods import BY_NAME, PRESETS, HessianFrom
from cimm_jax.runs.source import DataSource, FeatureSource

GIVEN = {str: "3", int: 0, float: 0.0, bool: True, Path: Path("folder")}
"""What a setting may be given, the values that are easily taken for nothing."""


def known_settings(kind: type) -> list[tuple[str, tuple[str, ...]]]:
    """Settings of some kinds of run only, and which these are."""
    return [(field.name, field.metadata["only"]) for field in fields(kind) if "only" in field.metadata]


def given(kind: type, name: str):
    """Settings with one that is given, whatever it is."""
    text = str(get_type_hints(kind, include_extras=False)[name])
    value = next((value for of, value in GIVEN.items() if of.__name__ in text), "x")
    return replace(kind(), **{name: (value,) if "tuple" in text else "data" if "Literal" in text else value})


def asked(line: str):
    """The settings that a command line asks for."""
    program, *arguments = shlex.split(line)
    assert program == "cimm"
    return tyro.cli(Command, args=arguments)  # pyright: ignore


@pytest.mark.parametrize(
    ("kind", "name", "only"), [(kind, *of) for kind in (Immunize, Attack) for of in known_settings(kind)]
)
def test_a_setting_of_another_kind_of_run_is_refused_and_one_of_this_kind_is_not(kind, name, only):
    made = given(kind, name)
    for run in kind.kinds:
        if run in only:
            refuse_foreign(made, run)
            continue
        with pytest.raises(InputError) as refused:
            refuse_foreign(made, run)
        message = str(refused.value)
        assert message.startswith(f"{name}: is a setting of ")
        assert message.endswith(f", not of {run}; leave it out")
        assert all((other in message) == (other in only) for other in kind.kinds if other != run)


@pytest.mark.parametrize("kind", [Immunize, Attack])
def test_what_was_not_given_is_never_refused(kind):
    for run in kind.kinds:
        refuse_foreign(kind(), run)


def test_every_setting_of_some_kinds_is_absent_unless_given():
    for kind in (Immunize, Attack):
        assert known_settings(kind)
        for name, only in known_settings(kind):
            assert getattr(kind(), name) in (None, False), name
            assert set(only) & set(kind.kinds), name


def test_an_immunization_is_of_data_of_own_features_of_a_map_or_of_what_is_trained():
    extractor = replace(OWN, extractor="residual")
    assert (IMMUNIZE.kind, OWN.kind, extractor.kind, MAP.kind, BLOCKS.kind) == Immunize.kinds
    assert replace(BLOCKS, model=None).kind == settings.FEATURES, "paths of images without a network"


@pytest.mark.parametrize(
    ("asked_for", "expected"),
    [({}, {}), ({"hessian": "data"}, {}), ({"hessian": "batch"}, {"hessian": HessianFrom.BATCH})],
)
def test_whose_hessians_the_methods_of_a_sweep_look_at(monkeypatch, asked_for, expected):
    told = []
    monkeypatch.setattr(settings, "build_methods", lambda names, given, defaults: told.append(given) or {})
    Sweep(**asked_for).build()
    assert told == [expected]


@pytest.mark.parametrize(
    ("asked_for", "expected"),
    [
        ({}, {}),
        ({"batch_size": 16}, {}),
        ({"hessian": "data"}, {"hessian": HessianFrom.DATA}),
        ({"hessian": "batch"}, {"hessian": HessianFrom.BATCH}),
    ],
)
def test_a_batch_alone_does_not_change_whose_hessians_are_looked_at(monkeypatch, asked_for, expected):
    told = []
    monkeypatch.setattr(
        settings, "build_methods", lambda names, given, defaults: told.append(given) or dict.fromkeys(names)
    )
    Immunize(**asked_for).build()
    Attack(**asked_for).build()
    assert told == [expected] * 2


def test_methods_are_built_with_the_settings_that_they_have():
    assert list(Sweep().build()) == list(BY_NAME)
    assert list(Attack().build()) == [*BY_NAME, *PRESETS]
    assert list(Attack(methods=("imma", "pencil"), budget="5").build()) == ["imma", "pencil"]
    built = Immunize(method="algorithm1", lambda_primary=2.0).build()
    assert built.penalties[0].weight == 2.0
    assert Immunize(method="pencil", budget="keep").build().closed_form
    plain, attacked = Immunize(method="best_response", heads=("unscaled",), fine_tuning_steps=2).build().penalties
    assert plain.value.__qualname__ == "explained by unscaled"
    assert attacked.after.steps == 2


@pytest.mark.parametrize(
    ("made", "named"),
    [
        (Immunize(method="nonsense"), "method: 'nonsense' is unknown"),
        (Immunize(method="imma", lambda_primary=1.0), "lambda_primary: is no setting of imma"),
        (Immunize(lambda_harmful=-1.0), "lambda_harmful"),
        (Immunize(lambda_primary=float("nan")), "lambda_primary"),
        (Immunize(budget="5"), "budget: is no setting of algorithm1"),
        (Immunize(method="pencil", lambda_primary=1.0), "lambda_primary: is no setting of pencil"),
        (Immunize(method="pencil", budget="much"), "budget: needs a number"),
        (Immunize(method="pencil", budget="0.5"), "budget"),
        (Immunize(method="pencil", ridge=-1.0), "ridge"),
        (Immunize(method="pencil", horizon=10), "horizon: is a setting of --objective signal"),
        (Immunize(method="pencil", objective="kappa", primary_no_slower_at=(1,)), "primary_no_slower_at"),
        (Immunize(method="pencil", objective="signal", horizon=0), "horizon"),
        (Immunize(no_rotate=True), "rotate"),
        (Immunize(method="hsic", heads=("linear",)), "heads: is no setting of hsic"),
        (Immunize(method="best_response", heads=()), "heads: needs some of linear, unscaled, kernel"),
        (Immunize(method="sophon", fine_tuning_steps=0), "fine_tuning_steps: needs a number of at least 1"),
        (Immunize(step_length=0.0), "step_length: needs a positive"),
        (Immunize(method="pencil", step_length=0.1), "step_length: a closed form takes no steps, and pencil is one"),
        (Immunize(step_length=float("inf")), "step_length: needs a positive"),
        (Sweep(methods=()), "methods: is empty"),
        (Sweep(methods=("imma",), ridge=1.0), "ridge: is no setting of imma"),
        (Attack(methods=("pencil", "pencil")), "repeats a name"),
        (Attack(methods=("nonsense",)), "pencil_signal"),
    ],
)
def test_what_a_method_cannot_be_given_is_refused(made, named):
    with pytest.raises(InputError, match=named) as refused:
        made.build()
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("text", "budget"), [("keep", "keep"), ("1", 1.0), ("1e3", 1000.0)])
def test_a_budget_is_a_number_or_keep(text, budget):
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "much", "0", "-1", "nan", "0.5"])
def test_other_budgets_are_refused(text):
    with pytest.raises(InputError, match="budget"):
        parse_budget(text)


EVERYTHING = [
    ATTACK,
    IMMUNIZE,
    MAP,
    BLOCKS,
    OWN,
    OWN_ATTACK,
    DIAGNOSE,
    SWEEP,
    Attack(
        runs=(Path("runs/a b"), Path("runs/c")), attackers=("whiten + adam", "newton"), harmful_only=True, json=True
    ),
    Attack(attack_rates=(0.1, 1e-05), schedules=("cosine", "constant"), benign="4v5", hessian="batch", batch_size=3),
    Immunize(objective="signal", primary_no_slower_at=(10, 100), horizon=5, budget="1e3", ridge=0.0, method="pencil"),
    replace(BLOCKS, primary_classes=("a b", "it's"), strict=True, label_smoothing=0.1, lambda_primary=0.5),
    Diagnose(primary_no_slower_at=(7,), rtol=1e-9, data="mnist", data_dir=Path("a b")),
    Sweep(kind="rest", hessian="batch", pairs_at_once=3, seed=7),
    Report(runs=(Path("a"), Path("b c")), out=Path("elsewhere")),
]


@pytest.mark.parametrize("made", EVERYTHING, ids=command_line)
def test_the_command_line_shown_asks_for_the_same_run(made):
    default = type(made)()
    assert asked(command_line(made)) == replace(made, out=default.out, json=default.json)
    manifest = manifest_of(made, {"x": "5ad0"})
    assert manifest.command == type(made).__name__.lower()
    assert manifest.settings == asdict(made), "with the default ones"
    assert (manifest.command_line, manifest.data_sha256) == (command_line(made), {"x": "5ad0"})
    assert {"cimm_jax", "jax", "python"} <= set(manifest.versions)


@pytest.mark.parametrize("made", EVERYTHING, ids=command_line)
def test_the_file_written_beside_the_results_asks_for_the_same_run(tmp_path, made):
    default = type(made)()
    path = write_config(tmp_path, manifest_of(made))
    assert read_config(path, type(made)) == replace(made, out=default.out, json=default.json)


def test_what_is_the_default_or_says_where_to_write_is_not_repeated():
    assert command_line(Immunize(out=Path("elsewhere"), json=True)) == "cimm immunize"
    assert command_line(Attack(runs=(Path("a"),), seed=0, rows=None)) == "cimm attack a"


def test_a_report_does_not_go_where_runs_go_and_defaults_are_the_documented_ones():
    assert Report().out != Attack().out == Sweep().out == Path("runs/latest")
    assert (Immunize().method, Sweep().methods, Diagnose().budgets) == (
        "algorithm1",
        tuple(BY_NAME),
        ("1", "10", "100", "keep"),
    )
    assert Reproduce("table1").seed == 0


FLAGS = (
    {"--help", "--version", "--quiet", "--verbose", "--tyro-print-completion"}
    | {
        f"--{field.name.replace('_', '-')}"
        for kind in (Attack, Diagnose, Export, Immunize, List, Report, Reproduce, Sweep)
        for field in fields(kind)
    }
    | {"--no-deps"}
)  # of pip
ROOT = Path(cimm_jax.__file__).parents[1]


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*\b(?![(-])", text))


@pytest.mark.parametrize("path", sorted((ROOT / "cimm_jax").rglob("*.py")), ids=lambda path: path.stem)
def test_what_the_program_says_names_flags_that_exist(path):
    constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    assert {flag for text in constants if isinstance(text, str) for flag in flags_in(text)} <= FLAGS


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_the_commands_in_the_documents_have_flags_that_exist(path):
    text = path.read_text().replace("\\\n", " ")
    commands = re.findall(r"^cimm [^#\n]*|`cimm [^`]*`", text, flags=re.MULTILINE)
    assert {flag for command in commands for flag in flags_in(command)} <= FLAGS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cimm attack a b --json", Attack(runs=(Path("a"), Path("b")), json=True)),
        ("cimm immunize --no-rotate --step-length 0.1", Immunize(no_rotate=True, step_length=0.1)),
        ("cimm report", Report()),
        ("cimm reproduce figure2 --runs a", Reproduce("figure2", runs=Path("a"))),
    ],
)
def test_a_command_line_is_read(line, expected):
    assert asked(line) == expected


@pytest.mark.parametrize(
    "line", ["cimm", "cimm nonsense", "cimm immunize --rotate", "cimm sweep --learning-rate 1", "cimm attack --loss l2"]
)
def test_a_command_line_that_cannot_be_read_ends_with_status_2(line, capsys):
    with pytest.raises(SystemExit) as ended:
        asked(line)
    assert ended.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "files"),
    [
        ({"primary": "a.npz", "harmful": "b.npz"}, True),
        ({"primary": "./a", "harmful": "b"}, True),
        ({"primary": "0v1", "harmful": "b.csv"}, True),
        ({"primary": "HERE", "harmful": "HERE"}, True),
        ({"primary": "HERE", "harmful": "HERE", "data": "digits"}, False),
        ({"primary": "nothing", "harmful": "of the kind"}, False),
        ({"primary": "3", "harmful": "4vrest"}, False),
        ({}, False),
    ],
)
def test_tasks_that_are_paths_are_files_of_own_features_unless_a_data_set_is_named(tmp_path, monkeypatch, given, files):
    (tmp_path / "HERE").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Immunize(**given).kind == Diagnose(**given).kind == (settings.FEATURES if files else settings.DATA)
    if None not in (given.get("primary"), given.get("harmful")) and given["primary"] != "0v1":
        source = Attack(**given).source
        assert Attack(**given).kind_of(source) == (settings.FRESH_FEATURES if files else settings.FRESH)
        assert isinstance(source, FeatureSource if files else DataSource)


def test_the_source_of_own_features_has_absolute_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = FeatureSource(tmp_path / "a.npz", tmp_path / "folder/h", None, "name", "regression", 0.3)
    assert OWN.source == expected
    assert replace(OWN, reserve=0.5, heldout_seed=2).source == replace(expected, reserved=0.5, heldout_seed=2)
    assert OWN_ATTACK.source == FeatureSource(*(tmp_path / name for name in ("p", "h.csv", "b.csv")), heldout_seed=3)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"primary": "a.npz"}, "^harmful: needs a file or folder of features, as the other task is, got nothing$"),
        ({"harmful": "a.npz", "primary": "0v1"}, "^primary: .* got the digit task 0v1$"),
        ({"harmful": "a.npz", "primary": "b.npz", "benign": "4v5"}, "^benign: .* got the digit task 4v5$"),
    ],
)
def test_files_and_digit_tasks_are_not_mixed(given, named):
    with pytest.raises(InputError, match=named):
        _ = Attack(**given).source
