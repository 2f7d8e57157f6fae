"""A network's head as arrays, and arrays as one."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cimm_jax.closed_form.heads import Head
from cimm_jax.networks.backbone import Backbone

__all__ = ["head_of", "parameters_of"]


def head_of(network: Backbone) -> Head:
    """A network's head as arrays."""
    return Head(np.asarray(network.head.kernel[...]), np.asarray(network.head.bias[...]))  # pyright: ignore


def parameters_of(head: Head, like: nnx.State) -> nnx.State:
    """The head's arrays in the place of those of a network taken apart (`functional.Split.head`), of the same types."""

    def put(path, leaf):
        return jnp.asarray(getattr(head, path[-2].key), leaf.dtype)

    return jax.tree_util.tree_map_with_path(put, like)
