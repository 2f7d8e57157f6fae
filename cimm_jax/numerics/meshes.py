"""Arrays that are spread over the devices of a mesh with explicit axes, as `jax.make_mesh` makes them."""

import jax
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

__all__ = ["is_spread", "on_every_device", "on_one_device"]


def is_spread(x: jax.Array) -> bool:
    """Whether it is sharded over explicit axes of a mesh; traceable."""
    return any(axis is not None for axis in jax.typeof(x).sharding.spec)


def on_one_device(x: jax.Array) -> jax.Array:
    """The array, or a copy on the first of its devices of one on a mesh of explicit axes; traced, on every device.

    What a person hands over is measured on one device: nothing then waits for another, and results go with those of other
    arrays. Sharding over automatic axes is the compiler's business, and left to it.
    """
    if isinstance(x, Tracer) or not x.is_fully_addressable:
        return on_every_device(x)
    if len(x.devices()) == 1 or not jax.typeof(x).sharding.mesh.explicit_axes:
        return x
    return jax.device_put(x, SingleDeviceSharding(min(x.devices(), key=lambda device: device.id)))


def on_every_device(x: jax.Array) -> jax.Array:
    """The array, or a copy on every device of one that is sharded over explicit axes; traceable."""
    if not is_spread(x):
        return x
    return jax.sharding.reshard(x, NamedSharding(jax.typeof(x).sharding.mesh, PartitionSpec(*[None] * x.ndim)))
