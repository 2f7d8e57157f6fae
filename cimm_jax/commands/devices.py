"""What a command runs on: one device, several of one machine or those of several processes; checked before anything is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import jax

from cimm_jax.commands.settings import DeviceSettings
from cimm_jax.commands.several_processes import first_alone, join
from cimm_jax.errors import InputError
from cimm_jax.numerics.spreading import spread_over

__all__ = ["AXIS", "FORCED", "WITHOUT_FLOAT64", "check_float64", "mesh_of", "on_devices"]

AXIS = "data"
"""The axis of a mesh that rows, pairs, rates and seeds go along."""

FORCED = "XLA_FLAGS=--xla_force_host_platform_device_count"
"""What makes several devices of a CPU."""

WITHOUT_FLOAT64 = ("tpu", "metal", "mps")
"""Platforms whose devices have no float64 for linear algebra."""


@contextmanager
def on_devices(asked: Any) -> Iterator[Any]:
    """The settings without those of devices, for what runs within: results say nothing of where they were made.

    Raises:
      InputError: if there are no such devices, or they cannot do what is asked.
    """
    if not isinstance(asked, DeviceSettings):
        yield asked
        return
    several = join(asked) > 1
    check_float64(jax.devices()[0].platform)
    mesh = mesh_of(f"{AXIS}={jax.device_count()}" if several and asked.mesh is None else asked.mesh)
    given = {field.name: field.default for field in fields(DeviceSettings)}
    with first_alone(replace(asked, **given)) as settled, spread_over(mesh):
        yield settled


def mesh_of(text: str | None) -> jax.sharding.Mesh | None:
    """The mesh of a flag's words, such as data=8; None of none.

    Raises:
      InputError: if they name another axis, no number, or more devices than there are.
    """
    if text is None:
        return None
    axis, _, number = text.partition("=")
    if axis != AXIS or not number.isdecimal() or int(number) < 1:
        raise InputError(f"mesh: needs {AXIS}=DEVICES, such as {AXIS}=8, got {text!r}")
    count, there = int(number), jax.device_count()
    if count > there:
        cure = f"set {FORCED}={count} first" if jax.devices()[0].platform == "cpu" else f"give at most {AXIS}={there}"
        raise InputError(f"mesh: asks for {count} devices and there {'is 1' if there == 1 else f'are {there}'}; {cure}")
    if jax.process_count() > 1 and count < there:
        raise InputError(f"mesh: leaves out devices of {jax.process_count()} processes; give {AXIS}={there}")
    return jax.make_mesh((count,), (AXIS,), devices=jax.devices()[:count])


def check_float64(platform: str) -> None:
    """Raises `InputError` if devices of a platform, as JAX calls it, have no float64."""
    if platform.lower() in WITHOUT_FLOAT64:
        raise InputError(f"JAX_PLATFORMS: {platform} has no float64, which condition numbers need; set it to cpu")
