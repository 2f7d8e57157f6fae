"""The command line `cimm`: reads what is asked for, and has it done."""

import os
import sys
from importlib import import_module
from typing import Annotated

import tyro

from cimm_jax import interruption
from cimm_jax.commands import settings
from cimm_jax.errors import InputError
from cimm_jax.files import reason_of

__all__ = ["RESUMED", "Command", "main"]

Command = (
    Annotated[settings.Attack, tyro.conf.subcommand("attack")]
    | Annotated[settings.Diagnose, tyro.conf.subcommand("diagnose")]
    | Annotated[settings.Immunize, tyro.conf.subcommand("immunize")]
    | Annotated[settings.Report, tyro.conf.subcommand("report")]
    | Annotated[settings.Reproduce, tyro.conf.subcommand("reproduce")]
    | Annotated[settings.Sweep, tyro.conf.subcommand("sweep")]
)

RESUMED = "what was finished and saved is not done again when the same command is given again"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit status.

    It is 0, 2 for input that cannot be used and files that cannot be read or written, 130 for Ctrl-C and 143 for SIGTERM.
    """
    asked = tyro.cli(
        Command, prog="cimm", description="Model immunization: protect, and measure how much.", args=arguments
    )  # pyright: ignore
    try:
        _run(asked)
    except InputError as error:
        print(f"cimm: {error}", file=sys.stderr)
        return 2
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


def _stopped(told: str = "") -> int:
    interruption.end()
    print(f"cimm: {interruption.word()}; {told or RESUMED}", file=sys.stderr)
    return interruption.status()


def _run(asked: object) -> None:
    import jax

    # An application may choose its precision; condition numbers need this one.
    jax.config.update("jax_enable_x64", True)
    name = type(asked).__name__.lower()
    verb = import_module(f"cimm_jax.commands.{name}")
    interruption.begin()
    getattr(verb, f"run_{name}")(asked)
    sys.stdout.flush()  # a full disk is noticed here rather than while the interpreter ends
