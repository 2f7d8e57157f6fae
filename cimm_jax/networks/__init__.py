"""Feature extractors in Flax NNX, each cut into a frozen trunk and a trainable tail, with published weights.

Only the names are here: `import cimm_jax.networks` imports no flax. Configurations live in one file an architecture.
"""

from cimm_jax.networks.registry import NETWORKS, build, by_name, network_names

__all__ = ["NETWORKS", "build", "by_name", "network_names"]
