"""A network's head as arrays."""

import numpy as np

from cimm_jax.closed_form.heads import Head
from cimm_jax.networks.backbone import Backbone

__all__ = ["head_of"]


def head_of(network: Backbone) -> Head:
    """A network's head as arrays."""
    return Head(np.asarray(network.head.kernel[...]), np.asarray(network.head.bias[...]))  # pyright: ignore
