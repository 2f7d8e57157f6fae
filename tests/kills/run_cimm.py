"""`cimm` as the kill tests run it: with a network that is small enough, and a save after every step."""

import sys


def run() -> int:
    """The exit status."""
    from cimm_jax.interruption import install

    install()
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
