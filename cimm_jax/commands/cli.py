"""The command line `cimm`: reads what is asked for, and has it done."""

import signal
import sys
from importlib import import_module
from typing import Annotated

import tyro

from cimm_jax.commands import settings
from cimm_jax.errors import InputError

__all__ = ["RESUMED", "Command", "main"]

Command = (
    Annotated[settings.Attack, tyro.conf.subcommand("attack")]
    | Annotated[settings.Diagnose, tyro.conf.subcommand("diagnose")]
    | Annotated[settings.Immunize, tyro.conf.subcommand("immunize")]
    | Annotated[settings.Report, tyro.conf.subcommand("report")]
    | Annotated[settings.Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[settings.Sweep, tyro.conf.subcommand("sweep")]
)

RESUMED = "a sweep continues where it was when the same command is given again"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 2 for input that cannot be used, 130 for Ctrl-C."""
    asked = tyro.cli(
        Command, prog="cimm", description="Model immunization: protect, and measure how much.", args=arguments
    )  # pyright: ignore
    try:
        _run(asked)
    except InputError as error:
        print(f"cimm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(f"cimm: interrupted; {str(interrupt) or RESUMED}", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def _run(asked: object) -> None:
    import jax

    # An application may choose its precision; condition numbers need this one.
    jax.config.update("jax_enable_x64", True)
    name = type(asked).__name__.lower()
    verb = import_module(f"cimm_jax.commands.{name}")
    getattr(verb, f"run_{name}")(asked)
