"""The command line `cimm`: reads what is asked for, and has it done."""

import os
import sys
import traceback
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import tyro

import cimm_jax
from cimm_jax import interruption
from cimm_jax.commands import settings
from cimm_jax.commands.compilation_cache import keep_programs
from cimm_jax.commands.config_file import read_config
from cimm_jax.commands.delivery import command_line
from cimm_jax.commands.devices import on_devices
from cimm_jax.commands.quick_compilation import compile_quickly
from cimm_jax.errors import InputError
from cimm_jax.files import reason_of
from cimm_jax.runs.manifest import versions
from cimm_jax.verbosity import Level, at_level, level

__all__ = ["POSITIONAL", "RESUMED", "Asked", "Command", "main"]

Command = (
    Annotated[settings.Attack, tyro.conf.subcommand("attack")]
    | Annotated[settings.Diagnose, tyro.conf.subcommand("diagnose")]
    | Annotated[settings.Export, tyro.conf.subcommand("export")]
    | Annotated[settings.Immunize, tyro.conf.subcommand("immunize")]
    | Annotated[settings.List, tyro.conf.subcommand("list")]
    | Annotated[settings.Report, tyro.conf.subcommand("report")]
    | Annotated[settings.Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[settings.Sweep, tyro.conf.subcommand("sweep")]
)

POSITIONAL = ("run", "runs", "what")
"""Settings that have no flag."""

RESUMED = "what was finished and saved is not done again when the same command is given again"

HARMFUL = "--harmful"
"""That may be given again."""

Everywhere = tyro.conf.CascadeSubcommandArgs[settings.Flag]


@dataclass(frozen=True)
class Asked:
    """Model immunization: protect, and measure how much."""

    command: tyro.conf.OmitSubcommandPrefixes[Command]  # pyright: ignore
    """What to do; cimm COMMAND --help says more."""
    version: settings.Flag = False
    """Print the version and nothing else."""
    quiet: Everywhere = False
    """Print no progress and no tables; errors and warnings are printed, and every file is written."""
    verbose: Everywhere = False
    """Print also what is run with which versions on which device, and where in the code an error came from."""

    @property
    def level(self) -> Level:
        """How much is to be said; raises `InputError` if both were asked for."""
        if self.quiet and self.verbose:
            raise InputError("--quiet: --verbose was given as well; give one of them")
        return Level.QUIET if self.quiet else Level.VERBOSE if self.verbose else Level.NORMAL


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    It is 0, 2 for input that cannot be used and files that cannot be read or written, 130 for Ctrl-C and 143 for SIGTERM.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if "--version" in words:
        print(f"cimm {cimm_jax.__version__}")
        return 0
    try:
        asked = _asked(_harmful_once(words))
        with at_level(asked.level):
            return _answered(asked.command)
    except InputError as error:  # in what says what to do
        return _refused(str(error), error)


def _harmful_once(words: list[str]) -> list[str]:
    """`--harmful A ... --harmful B` as `--harmful A --harmful-too B ...`, since of a flag that comes again the last would win.

    Raises:
      InputError: if it comes again and the command takes one harmful task.
    """
    kept: list[str] = []
    given: list[str] = []
    place, rest = 0, iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag != HARMFUL:
            kept.append(word)
            continue
        place = place if given else len(kept)
        given.append(value if equals else next(rest, ""))
    if len(given) < 2:
        return words
    if "immunize" not in words:
        raise InputError(f"{HARMFUL}: is given twice; only cimm immunize takes several harmful tasks")
    return [*kept[:place], HARMFUL, given[0], f"{HARMFUL}-too", *given[1:], *kept[place:]]


def _asked(words: list[str]) -> Asked:
    """What a command line asks for, the settings of its file below its own; raises `InputError` for a bad file."""
    if not any(word.startswith("--config") for word in words):
        return _read(words)
    # A switch that the file turns on has a flag that turns it off instead, which is not known before the file is read.
    asked, _ = tyro.cli(Asked, **_AS_ONE, args=words, return_unknown_args=True)
    path = getattr(asked.command, "config", None)
    if not isinstance(path, Path):
        return _read(words)
    from_file = read_config(path, type(asked.command))
    on = {f"--{name.replace('_', '-')}" for name, value in vars(from_file).items() if value is True}
    words = [word for word in words if word.replace("_", "-") not in on]
    asked = _read(words, default=Asked(from_file))
    # The run is what its settings say, wherever they were written.
    return replace(asked, command=replace(asked.command, config=None))


_AS_ONE: Any = {"prog": "cimm", "config": (tyro.conf.OmitArgPrefixes,)}


def _read(words: list[str], **default: Any) -> Asked:
    return tyro.cli(Asked, **_AS_ONE, args=words, **default)


def _answered(command: Any) -> int:
    try:
        _run(command)
    except InputError as error:
        return _refused(_as_typed(str(error), command), error)
    except BrokenPipeError:  # whoever read what is printed has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except OSError as error:
        print(f"cimm: {error.filename or 'standard output'}: cannot be used ({reason_of(error)})", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        return _stopped(str(interrupt))
    except Exception:
        if not interruption.came():
            raise
        return _stopped()  # what a library made of it
    return 0


def _refused(told: str, error: InputError) -> int:
    if level() is Level.VERBOSE:
        traceback.print_exception(error)
    print(f"cimm: {told}", file=sys.stderr)
    return 2


def _as_typed(message: str, command: Any) -> str:
    """A message about a setting with the flag that people typed, where Python's argument has other dashes."""
    name, colon, rest = message.partition(":")
    flags = {known.name for known in fields(command)} - {*POSITIONAL}
    return f"--{name.replace('_', '-')}:{rest}" if colon and name in flags else message


def _stopped(told: str = "") -> int:
    interruption.end()
    print(f"cimm: {interruption.word()}; {told or RESUMED}", file=sys.stderr)
    return interruption.status()


def _say_what_runs(asked: Any) -> None:
    import jax

    said = [command_line(asked)] if isinstance(asked, settings.Common) else []
    said.append(", ".join(f"{name} {version}" for name, version in versions().items()))
    said.append(f"on {', '.join(str(device) for device in jax.devices())}")
    for line in said:
        print(f"cimm: {line}", file=sys.stderr)


def _run(asked: object) -> None:
    import jax

    # An application may choose its precision; condition numbers need this one.
    jax.config.update("jax_enable_x64", True)
    keep_programs()
    if isinstance(asked, settings.Diagnose) and asked.model is None:
        compile_quickly()
    name = type(asked).__name__.lower()
    verb = import_module(f"cimm_jax.commands.{name}")
    interruption.begin()
    with on_devices(asked) as settled:
        if level() is Level.VERBOSE:
            _say_what_runs(settled)
        getattr(verb, f"run_{name}")(settled)
        sys.stdout.flush()  # a full disk is noticed here rather than while the interpreter ends
