"""Rows that are spread over the devices of a process, or of several, are measured as on one: a process of its own runs this."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

from cimm_jax import Task, TaskPair, covariance, diagnose, feature_condition_number
from cimm_jax.closed_form.limits import pair_limit
from cimm_jax.numerics.meshes import on_host, spread_rows


def check_rows(*kinds):
    """Fails unless what is known of two matrices is the same on one device and on a mesh of all, with axes of these kinds."""
    rng = np.random.default_rng(0)
    x, h = rng.standard_normal((123, 6)), rng.standard_normal((128, 6)) * np.geomspace(9, 1, 6)
    exact = _measured(jnp.asarray(x), jnp.asarray(h))
    for kind in kinds:
        mesh = Mesh(np.array(jax.devices()), ("data",), (kind,))
        spread = [spread_rows(rows, mesh) for rows in (x, h)]
        assert all(len(rows.sharding.device_set) == jax.device_count() > 1 for rows in spread)
        same(_measured(*spread), exact, 1e-12)


def same(found, known, tolerance):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(known), strict=True):
        wanted = np.asarray(other, float)
        size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
        np.testing.assert_allclose(np.asarray(one, float), wanted, rtol=tolerance, atol=tolerance * size)


def _measured(x, h):
    pair = TaskPair(Task(x), Task(h))
    found = diagnose(pair, ridge=1e-3)
    return (*map(on_host, (covariance(x), *feature_condition_number(x), pair_limit(pair).log_rir)), found.mu)


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    check_rows(AxisType.Explicit)
    print("equal")
