"""A network's head as arrays, and the other way round."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from cimm_jax.closed_form.heads import Head
from cimm_jax.data.tensor_file import FLOATS, open_tensors
from cimm_jax.errors import InputError
from cimm_jax.networks.backbone import Backbone

__all__ = ["MOST_BYTES", "head_of", "read_head", "with_head"]

MOST_BYTES = 1 << 30
"""Of a file with a head; one of 16,384 features and 10,000 classes has two thirds of that."""


def head_of(network: Backbone) -> Head:
    """A network's head as arrays."""
    return Head(np.asarray(network.head.kernel[...]), np.asarray(network.head.bias[...]))  # pyright: ignore


def with_head(network: Backbone, head: Head) -> Backbone:
    """The same network, sharing its arrays, with another head; its configuration says still what its weights have."""
    features, classes = head.kernel.shape
    layer = nnx.eval_shape(lambda: nnx.Linear(features, classes, rngs=nnx.Rngs(0)))
    layer.kernel, layer.bias = (nnx.Param(jnp.asarray(array, jnp.float32)) for array in head)
    return Backbone(network.config, {name: network.parts[name] for name in network.cuts[:-1]}, layer)


def read_head(path: Path, features: int) -> Head:
    """The head in a file with `kernel` and `bias`, float32.

    Raises:
      InputError: if it is missing, damaged, or not one on so many features.
    """
    with open_tensors(path, "weights", most=MOST_BYTES, cure="immunize again") as file:
        kernel, bias = (file.tensors.get(name) for name in ("kernel", "bias"))
        shapes = [() if of is None or of.dtype not in FLOATS else of.shape for of in (kernel, bias)]
        if len(shapes[0]) != 2 or shapes[0][0] != features or shapes[1] != shapes[0][1:]:
            raise InputError(f"weights: {path} has no kernel ({features}, classes) and bias (classes,); immunize again")
        found = Head(*(file.array(name).astype(np.float32) for name in ("kernel", "bias")))
    if not all(np.isfinite(array).all() for array in found):
        raise InputError(f"weights: {path} has numbers that are not finite; immunize again")
    return found
