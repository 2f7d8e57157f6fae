"""What the names in a file of weights say of the network: how they begin, and how many outputs its head has."""

from collections.abc import Mapping, Sequence

from cimm_jax.data.tensor_file import Described

__all__ = ["outputs_of", "prefix_of"]


def prefix_of(tensors: Mapping[str, Described], key: str, known: Sequence[str]) -> str:
    """The one of the known beginnings with which the key is there; the first if it is not there at all."""
    return next((prefix for prefix in known if f"{prefix}{key}" in tensors), known[0])


def outputs_of(tensors: Mapping[str, Described], keys: Sequence[str]) -> int:
    """Rows of the first of these kernels, (outputs, inputs), that is there; 0 if none is: a network without a head."""
    shapes = (tensors[key].shape for key in keys if key in tensors)
    return next((shape[0] for shape in shapes if len(shape) == 2), 0)
