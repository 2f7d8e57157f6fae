"""`cimm reproduce`: the tables and figures of the paper, made by the files of `experiments/`."""

import contextlib
import importlib
import io
import sys
from pathlib import Path

import cimm_jax
from cimm_jax.commands.settings import Reproduce
from cimm_jax.errors import InputError
from cimm_jax.locks import only_one_in
from cimm_jax.verbosity import Level, level

__all__ = ["DRAWN", "EXPERIMENTS", "SETTINGS", "TAILS", "configurations", "run_reproduce"]

EXPERIMENTS = {
    "table1": "table1_house",
    "table2": "table2_mnist",
    "table3": "table3_deepnets",
    "figure1": "figure1",
    "figure2": "figure2",
    "figure3": "figure3",
}
TAILS = "table3_tails"
"""The experiment of table3's configurations that train the last blocks; their names begin with tail_."""

SETTINGS = {
    "table1": ("seeds",),
    "table2": ("seeds", "rows", "epochs"),
    "table3": ("seeds",),
    "figure1": ("seeds", "rows"),
}
"""Numbers that each experiment lets its users choose."""

DRAWN = {"figure2": "table2", "figure3": "table3"}
"""Figures of what a table found: they compute nothing, so that they need no data."""


def run_reproduce(command: Reproduce) -> None:
    """Runs the experiment with the settings that were given; it prints, resumes and writes by itself."""
    if command.config is not None and command.what in ("", "table3") and command.config not in configurations():
        known = ", ".join(configurations())
        raise InputError(f"config: {command.config!r} is no configuration of table3; choose one of {known}")
    if command.what not in EXPERIMENTS:
        got = f", got {command.what!r}" if command.what else ""
        raise InputError(
            f"what: needs one of {', '.join(EXPERIMENTS)}{got}, as in: cimm reproduce table1 --data-dir DIR"
        )
    if command.data_dir is None and command.what not in DRAWN:
        raise InputError("data_dir: is needed; give the folder that holds house_prices/, mnist/ and so on")
    tails = command.what == "table3" and str(command.config).startswith("tail_")
    experiment = _experiment(TAILS if tails else EXPERIMENTS[command.what])
    folder = Path("runs") / command.what if command.out is None else command.out
    arguments = ["--out", str(folder), *_given(command)]
    with only_one_in(folder):
        if not command.json and level() is not Level.QUIET:
            experiment.main(arguments)
            return
        with contextlib.redirect_stdout(io.StringIO()):
            written = experiment.main(arguments)
        if command.json:
            print(written.read_text(), end="")


def configurations() -> tuple[str, ...]:
    """Names of table3's configurations, those of maps and those of trained blocks."""
    return (*_experiment(EXPERIMENTS["table3"]).CONFIGURATIONS, *_experiment(TAILS).TAILS)


def _given(command: Reproduce) -> list[str]:
    """The settings that were given, as arguments of the experiment; raises `InputError` for one that it does not have."""
    numbers = {"seeds": command.seeds, "rows": command.rows, "epochs": command.epochs}
    if command.what in DRAWN:
        for name, value in {**numbers, "data_dir": command.data_dir, "config": command.config}.items():
            if value is not None:
                raise InputError(f"{name}: {command.what} draws what {DRAWN[command.what]} found; leave it out")
        return [] if command.runs is None else ["--runs", str(command.runs)]
    if command.runs is not None:
        raise InputError(f"runs: is what {' and '.join(DRAWN)} draw; leave it out")
    if (command.config is None) is (command.what == "table3"):
        raise InputError("config: table3 needs one, such as lite0_cars, and the others have none")
    arguments = ["--data-dir", str(command.data_dir), "--seed", str(command.seed)]
    arguments += [] if command.config is None else ["--config", command.config]
    for name, value in numbers.items():
        if value is None:
            continue
        if name not in SETTINGS[command.what]:
            raise InputError(f"{name}: {command.what} has no such setting; leave it out")
        if value < 1:
            raise InputError(f"{name}: needs at least 1, got {value}")
        arguments += [f"--{name}", str(value)]
    return arguments


def _experiment(name: str):
    root = Path(cimm_jax.__file__).resolve().parents[1]
    if not (root / "experiments" / f"{name}.py").exists():
        raise InputError("reproduce: needs a checkout of the repository; clone it and pip install -e . there")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"experiments.{name}")
