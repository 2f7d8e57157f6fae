"""Low-rank adapters (LoRA, Hu et al., 2021): a change of every kernel through a narrow product.

    W + scale * A B / r,     A of shape (m, r), B of shape (r, n)

A kernel of a linear layer is its own matrix, (m, n); one of a convolution, (height, width, inputs, outputs), is seen as
(height * width * inputs, outputs), the product that it takes of a patch.
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from cimm_jax.errors import InputError
from cimm_jax.numerics.products import product

__all__ = ["Adapter", "Adapters", "adapted", "adapters", "widths"]

_DEPTHWISE_INPUTS = 1
_KERNEL_AXES = (2, 4)


class Adapter(NamedTuple):
    """The two factors of one kernel's change.

    Attributes:
      a: shape (m, r).
      b: shape (r, n).
    """

    a: jax.Array
    b: jax.Array


Adapters: TypeAlias = dict[tuple[Any, ...], Adapter]
"""By the kernel's path in the state."""


def widths(params: nnx.State) -> dict[tuple[Any, ...], int]:
    """By path, the full rank min(m, n) of each kernel that gets an adapter: of linear layers and of convolutions.

    Depthwise kernels, of shape (height, width, 1, channels), are left alone, as are norms, biases and embeddings.
    """
    return {path: min(_matrix(leaf[...]).shape) for path, leaf in nnx.to_flat_state(params) if _is_adapted(path, leaf)}


def adapters(params: nnx.State, rank: int, key: jax.Array) -> Adapters:
    """Adapters that change nothing yet: entries of A normal with variance 1 / m, B zero.

    Args:
      params: parameters, such as `Split.tail`.
      rank: r; a kernel that is narrower gets its full rank.
      key: seeds A.

    Raises:
      InputError: if the rank is below 1 or above the full rank of every kernel, or there is no kernel.
    """
    found = widths(params)
    if not found:
        raise InputError("params: have no kernel of a linear layer or a convolution; choose an earlier cut")
    widest = max(found.values())
    if not 1 <= rank <= widest:
        raise InputError(f"rank: needs 1 to {widest}, the full rank of the widest layer, got {rank}")
    kernels = {path: _matrix(leaf[...]) for path, leaf in nnx.to_flat_state(params) if path in found}
    made = {}
    for number, (path, kernel) in enumerate(sorted(kernels.items())):
        (m, n), own = kernel.shape, min(rank, found[path])
        a = jax.random.normal(jax.random.fold_in(key, number), (m, own), kernel.dtype) / m**0.5
        made[path] = Adapter(a, jnp.zeros((own, n), kernel.dtype))
    return made


def adapted(params: nnx.State, adapters: Adapters, scale: float = 1.0) -> nnx.State:
    """The parameters with every adapter's change added: W + scale * A B / r, r the adapter's own rank."""

    def changed(path: tuple[Any, ...], leaf: nnx.Variable) -> nnx.Variable:
        if path not in adapters:
            return leaf
        a, b = adapters[path]
        kernel = leaf[...]
        return leaf.replace(kernel + (product(a, b) * (scale / a.shape[1])).reshape(kernel.shape))

    return nnx.from_flat_state([(path, changed(path, leaf)) for path, leaf in nnx.to_flat_state(params)])


def _is_adapted(path: tuple[Any, ...], leaf: nnx.Variable) -> bool:
    shape = leaf[...].shape
    depthwise = len(shape) == 4 and shape[2] == _DEPTHWISE_INPUTS
    return path[-1] == "kernel" and len(shape) in _KERNEL_AXES and not depthwise


def _matrix(kernel: jax.Array) -> jax.Array:
    return kernel.reshape(-1, kernel.shape[-1])
