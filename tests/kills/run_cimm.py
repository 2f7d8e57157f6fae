"""`cimm` as the kill tests run it: with a network small enough, a save after every step, and a disk that may be full.

The environment variable CIMM_DISK is how many bytes a file may have; what would be longer is refused, as on a full disk.
"""

import os
import resource
import sys


def run() -> int:
    """The exit status."""
    from cimm_jax.interruption import install

    install()
    if "CIMM_DISK" in os.environ:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["CIMM_DISK"]),) * 2)
    from cimm_jax.__main__ import main
    from cimm_jax.commands import sweep
    from cimm_jax.networks import NETWORKS
    from cimm_jax.resuming import Checkpoint

    NETWORKS["small"] = "networks.small_networks:NETWORK"
    sweep.SECONDS_BETWEEN_SAVES = 0.0
    Checkpoint.__init__.__kwdefaults__["seconds_between_saves"] = 0.0
    return main()


if __name__ == "__main__":
    sys.exit(run())
