"""Feature extractors in Flax NNX, each cut into a frozen trunk and a trainable tail, with published weights.

Only the names are here: `import cimm_jax.networks` imports no flax. Configurations live in one file an architecture.
"""

from cimm_jax.networks.registry import (
    GROUP,
    NETWORKS,
    build,
    by_name,
    check_model,
    checkpoint_folder,
    config_of,
    definition_of,
    network_names,
)

__all__ = [
    "GROUP",
    "NETWORKS",
    "build",
    "by_name",
    "check_model",
    "checkpoint_folder",
    "config_of",
    "definition_of",
    "network_names",
]
