"""Arrays that are spread over the devices of a mesh, with explicit axes, as `jax.make_mesh` makes them, or automatic ones.

What a person hands over is measured on one device: nothing then waits for another, and results go with those of other arrays.
Where rows are too many for that, they stay where they are, and what is made of them is small (`tall_qr`, `hessian.covariance`).
"""

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

__all__ = ["axes_of_rows", "is_spread", "on_every_device", "on_host", "on_one_device", "spread_rows"]


def is_spread(x: jax.Array) -> bool:
    """Whether it is sharded over explicit axes of a mesh; traceable."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def axes_of_rows(x: jax.Array) -> tuple[str, ...]:
    """The axes of its mesh that the first axis of an array, and no other, is spread over; empty of others, and of tracers."""
    if isinstance(x, Tracer) or not isinstance(x.sharding, NamedSharding) or x.sharding.is_fully_replicated:
        return ()
    first, *others = (*x.sharding.spec, *[None] * (x.ndim - len(x.sharding.spec)))
    if first is None or any(axis is not None for axis in others):
        return ()
    return first if isinstance(first, tuple) else (first,)


def on_one_device(x: jax.Array) -> jax.Array:
    """The array, or a copy on the first of its devices of one that has several; traced, on every device.

    Of an array that is spread over several processes, each gets a copy on a device of its own.
    """
    if isinstance(x, Tracer):
        return on_every_device(x)
    if not x.is_fully_addressable:
        return _on_all(x).addressable_data(0)
    if len(x.devices()) == 1:
        return x
    return jax.device_put(x, SingleDeviceSharding(min(x.devices(), key=lambda device: device.id)))


def on_host(x: jax.Array) -> np.ndarray:
    """The array as NumPy has it, in every process that has a part of it."""
    return np.asarray(x if x.is_fully_addressable else on_one_device(x))


def on_every_device(x: jax.Array) -> jax.Array:
    """The array, or a copy on every device of one that is sharded over explicit axes; traceable."""
    if not is_spread(x):
        return x
    return jax.sharding.reshard(x, NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec(*[None] * x.ndim)))


def spread_rows(x: np.ndarray, mesh: Mesh) -> jax.Array:
    """The array spread by its first axis over all devices of a mesh; rows of zeros fill it up where they do not divide.

    Args:
      x: shape (N, ...), on the host; in several processes each gives all of it. Zero rows change no covariance, no singular
        value and no rank.
      mesh: of any axes; the rows go over the product of all.
    """
    filled = np.pad(x, [(0, -len(x) % mesh.size), *[(0, 0)] * (np.ndim(x) - 1)])
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    return jax.make_array_from_callback(filled.shape, sharding, lambda part: filled[part])


@jax.jit
def _same(x: jax.Array) -> jax.Array:
    return x


def _on_all(x: jax.Array) -> jax.Array:
    """A copy on every device of those that the array is spread over."""
    return jax.jit(_same, out_shardings=NamedSharding(x.sharding.mesh, PartitionSpec()))(x)  # pyright: ignore
