"""Work that is spread over the devices of a mesh: which mesh, where whoever spreads can look it up, and maps along it.

    with spread_over(jax.make_mesh((8,), ("data",))):
        ...

Within, sweeps put their pairs, rates and seeds on the mesh, and training and features of a network their rows. What comes out
does not depend on the number of devices, but for rounding.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cimm_jax.numerics.threads import one_blas_thread

__all__ = [
    "agreed",
    "along",
    "by_rows",
    "everywhere",
    "finished",
    "local_mesh",
    "mesh_in_use",
    "multiple_of_devices",
    "spread_over",
]

_mesh: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


def mesh_in_use() -> Mesh | None:
    """The mesh that work is spread over now, its axes automatic; None if it is not spread."""
    return _mesh.get()


def local_mesh() -> Mesh | None:
    """The part of it that is this process's: for work that processes do not do together."""
    mesh = mesh_in_use()
    if mesh is None or jax.process_count() == 1:
        return mesh
    return Mesh(np.asarray(mesh.local_devices), ("local",), (AxisType.Auto,))


@contextmanager
def spread_over(mesh: Mesh | None) -> Iterator[None]:
    """What runs within is spread over all devices of a mesh of any axes; None spreads nothing.

    On CPU each call of LAPACK has one thread meanwhile (`threads.one_blas_thread`).
    """
    automatic = None if mesh is None else Mesh(mesh.devices, mesh.axis_names, (AxisType.Auto,) * len(mesh.axis_names))
    former = _mesh.set(automatic)
    try:
        with one_blas_thread() if _on_cpu(automatic) else nullcontext():
            yield
    finally:
        _mesh.reset(former)


def multiple_of_devices(count: int, mesh: Mesh | None) -> int:
    """The least number of at least `count` that divides among the devices."""
    return count if mesh is None else -(-count // mesh.size) * mesh.size


def everywhere(tree: Any, mesh: Mesh | None) -> Any:
    """A copy of every array on every device; without a mesh, the arrays."""
    return tree if mesh is None else _put(tree, mesh, PartitionSpec())


def agreed(count: int) -> int:
    """The least of what the processes say: they must all divide their common work alike."""
    if jax.process_count() == 1:
        return count
    from jax.experimental import multihost_utils

    return int(np.min(multihost_utils.process_allgather(np.asarray(count))))


def by_rows(tree: Any, mesh: Mesh | None) -> Any:
    """Arrays spread by their first axes, which must divide among the devices; without a mesh, the arrays."""
    return tree if mesh is None else _put(tree, mesh, PartitionSpec(mesh.axis_names))


def along(function: Callable[[Any, Any], Any], batched: Any, common: Any, mesh: Mesh | None) -> Any:
    """function(batched, common), each device with its own part of a batch; traceable, and nothing travels.

    Args:
      function: from a batch and what all of it shares to results with the same leading axis.
      batched: arrays with one leading axis, which is filled up with its last member where it does not divide.
      common: arrays that each device has.
      mesh: None calls the function.
    """
    if mesh is None:
        return function(batched, common)
    count = len(jax.tree.leaves(batched)[0])
    numbers = np.minimum(np.arange(multiple_of_devices(count, mesh)), count - 1)
    filled = batched if len(numbers) == count else jax.tree.map(lambda leaf: leaf[numbers], batched)
    spread = PartitionSpec(mesh.axis_names)
    found = jax.shard_map(function, mesh=mesh, in_specs=(spread, PartitionSpec()), out_specs=spread, check_vma=False)(
        filled, common
    )
    return jax.tree.map(lambda leaf: leaf[:count], found)


def finished(tree: Any, mesh: Mesh | None) -> Any:
    """The arrays, waited for where several programs whose devices speak to each other must not be under way at once: on CPU."""
    return jax.block_until_ready(tree) if _on_cpu(mesh) else tree


def _on_cpu(mesh: Mesh | None) -> bool:
    return mesh is not None and mesh.devices.flat[0].platform == "cpu"


def _put(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    sharding = NamedSharding(mesh, spec)

    def put(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=str(jax.random.key_impl(leaf)))
        if jax.process_count() == 1 or (isinstance(leaf, jax.Array) and not leaf.is_fully_addressable):
            return jax.device_put(leaf, sharding)
        # Every process has all of it, and gives its devices their parts: `device_put` would compare them all first.
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    return jax.tree.map(put, tree)
