"""Programs that are compiled quickly, for a command that compiles many and runs each once."""

import os

from jaxlib import version

__all__ = ["FLAG", "compile_quickly"]

FLAG = "xla_cpu_use_fusion_emitters"
"""Of XLA: without them `cimm diagnose` takes a fifth less processor time on House, and its numbers differ by rounding."""

KNOWN_IN = (0, 10)
"""Version of jaxlib that knows the flag for sure. One that does not would end the process."""


def compile_quickly() -> None:
    """Sets the flag for this process, unless the environment has it already or jaxlib may not know it.

    XLA reads it when the first device is asked for; afterwards this changes nothing.
    """
    told = os.environ.get("XLA_FLAGS", "")
    if version.__version_info__[:2] == KNOWN_IN and FLAG not in told:
        os.environ["XLA_FLAGS"] = f"{told} --{FLAG}=false".strip()
