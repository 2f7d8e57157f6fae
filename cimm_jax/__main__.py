"""`python -m cimm_jax` is `cimm`: it answers to Ctrl-C and SIGTERM before anything heavy is imported."""

import sys

from cimm_jax.interruption import ignore, install, leave

__all__ = ["main"]


def main() -> int:
    """Runs one command and returns its exit status; a command that was interrupted ends the process here."""
    install()
    from cimm_jax.commands import cli

    status = cli.main()
    ignore()
    if status > 128:  # a signal
        leave(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
