"""Arrays on a mesh of explicit axes, as `jax.make_mesh` makes them, in a process that has eight devices."""

import os
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import NamedSharding, PartitionSpec as P
    from cimm_jax import (
        PseudoInverse, ReleasedCode, Ridge, Task, TaskPair, absorb, condition_number, covariance, definition_3_1, diagnose,
        extract, feature_condition_number, immunize, judge, log_condition_number, methods, pencil_limit, probe_hessian, r_ill,
        r_well, relative_immunization_ratio, streamed_covariance,
    )
    from cimm_jax.closed_form.limits import pair_limit, share_of_pair
    from cimm_jax.closed_form.ridge import choose_ridge
    from cimm_jax.measures.bootstrap import bootstrap_ratio
    from cimm_jax.measures.excess import excess_curves
    from cimm_jax.measures.groups import grouped_ratio
    from cimm_jax.numerics.convergence import excess_left
    from cimm_jax.numerics.least_squares import probe_loss
    from cimm_jax.numerics.spectra import Route

    jax.config.update("jax_enable_x64", True)
    mesh = jax.make_mesh((8,), ("devices",))
    rng = np.random.default_rng(0)
    x, h, theta = (rng.standard_normal((rows, 8)) for rows in (64, 64, 8))
    h *= np.geomspace(9, 1, 8)
    y = np.sign(rng.standard_normal(64))
    plain = (jnp.asarray(x), TaskPair(Task(jnp.asarray(x), jnp.asarray(y)), Task(jnp.asarray(h), jnp.asarray(y))), theta)

    def put(array, *axes):
        return jax.device_put(array, NamedSharding(mesh, P(*axes)))

    by_rows = jax.tree.map(lambda leaf: put(leaf, "devices"), plain)
    by_columns = (put(x, None, "devices"), by_rows[1], put(theta, None, "devices"))
    key = jax.random.key(0)
    CALLS = [
        lambda x, pair, theta: condition_number(x),
        lambda x, pair, theta: [feature_condition_number(x, route=route) for route in Route],
        lambda x, pair, theta: [feature_condition_number(x, policy) for policy in (Ridge(1e-3), ReleasedCode())],
        lambda x, pair, theta: (log_condition_number(x), r_well(x), r_ill(x)),
        lambda x, pair, theta: (covariance(x), streamed_covariance([x, x]), probe_hessian(theta, covariance(x))),
        lambda x, pair, theta: pencil_limit(covariance(x), covariance(pair.harmful.x)),
        lambda x, pair, theta: excess_left(x, pair.primary.y, (1, 3)),
        lambda x, pair, theta: probe_loss(pair.primary, pair.harmful),
        lambda x, pair, theta: relative_immunization_ratio(theta, pair),
        lambda x, pair, theta: judge(extract(theta, pair, theta)),
        lambda x, pair, theta: definition_3_1(extract(theta, pair)).immunized,
        lambda x, pair, theta: (pair_limit(pair), share_of_pair(theta, pair), choose_ridge(x).ridge),
        lambda x, pair, theta: bootstrap_ratio(key, extract(theta, pair), resamples=20),
        lambda x, pair, theta: excess_curves(extract(theta, pair), 3),
        lambda x, pair, theta: grouped_ratio(extract(theta, pair), key, groups=2, rows=10)[:3],
        lambda x, pair, theta: absorb(theta, theta),
        lambda x, pair, theta: diagnose(pair).mu,
        lambda x, pair, theta: [immunize(method, pair, steps=1).theta for method in (methods.algorithm1(), methods.pencil())],
    ]
    for call in CALLS:
        expected = jax.tree.leaves(call(*plain))
        for arguments in (by_rows, by_columns):
            for found, known in zip(jax.tree.leaves(call(*arguments)), expected, strict=True):
                np.testing.assert_allclose(np.asarray(found, float), np.asarray(known, float), rtol=1e-7, atol=1e-9)

    # Traced, and spread over a batch.
    for measure in (condition_number, feature_condition_number):
        compiled = jax.jit(lambda s: measure(s).kappa)
        np.testing.assert_allclose(jax.block_until_ready(compiled(by_rows[0])), compiled(x), rtol=1e-9)
        gradient = jax.jit(jax.grad(lambda s: measure(s).kappa))
        np.testing.assert_allclose(jax.block_until_ready(gradient(by_rows[0])), gradient(x), rtol=1e-6, atol=1e-8)
        batch = x.reshape(8, 8, 8)
        mapped = jax.jit(jax.vmap(lambda s: measure(s).kappa))
        np.testing.assert_allclose(jax.block_until_ready(mapped(put(batch, "devices"))), mapped(batch), rtol=1e-9)
    print("equal")
"""


@pytest.mark.slow
def test_whatever_a_person_calls_takes_arrays_that_are_spread_over_devices():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"
