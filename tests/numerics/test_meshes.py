"""Arrays on a mesh of explicit axes, as `jax.make_mesh` makes them, and of automatic ones, in a process of eight devices."""

import os
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from cimm_jax import (
        PseudoInverse, ReleasedCode, Ridge, SplitPair, Task, TaskPair, absorb, attacks, condition_number, covariance,
        definition_3_1, diagnose, extract, feature_condition_number, immunize, judge, log_condition_number, methods,
        pencil_limit, probe_hessian, r_ill, r_well, relative_immunization_ratio, stack_pairs, streamed_covariance,
    )
    from cimm_jax.attacks import Target
    from cimm_jax.closed_form.limits import pair_limit, share_of_pair
    from cimm_jax.closed_form.ridge import choose_ridge
    from cimm_jax.measures.bootstrap import bootstrap_ratio
    from cimm_jax.measures.excess import excess_curves
    from cimm_jax.measures.groups import grouped_ratio
    from cimm_jax.numerics.convergence import excess_left
    from cimm_jax.numerics.condensing import condense
    from cimm_jax.numerics.least_squares import probe_loss
    from cimm_jax.numerics.meshes import spread_rows
    from cimm_jax.numerics.spectra import Route
    from cimm_jax.numerics.tall_qr import dealt_factors, few_rows, is_tall

    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    x, h, theta = (rng.standard_normal((rows, 8)) for rows in (128, 128, 8))
    h *= np.geomspace(9, 1, 8)
    y = np.sign(rng.standard_normal(128))
    plain = (jnp.asarray(x), TaskPair(Task(jnp.asarray(x), jnp.asarray(y)), Task(jnp.asarray(h), jnp.asarray(y))), theta)

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
        lambda x, pair, theta: [
            getattr(diagnose(pair, heldout=pair), name) for name in ("ridge", "mu", "undefended", "protection")
        ],
        lambda x, pair, theta: covariance(condense([pair.primary], folds=5).task.x),
        lambda x, pair, theta: [
            found.left
            for found in attacks.sweep(
                attacks.standard_operators(("sgd", "newton"), steps=2, rates=1), {"none": Target(*pair)}, keys=key[None]
            ).values()
        ],
        lambda x, pair, theta: methods.sweep(
            {"pencil": methods.pencil()}, SplitPair(*[stack_pairs([pair])] * 2), keys=key[None], steps=1
        ),
        lambda x, pair, theta: [immunize(method, pair, steps=1).theta for method in (methods.algorithm1(), methods.pencil())],
    ]
    expected = [jax.tree.leaves(call(*plain)) for call in CALLS]
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((8,), ("devices",), axis_types=(kind,))

        def put(array, *axes):
            return jax.device_put(array, NamedSharding(mesh, P(*axes)))

        by_rows = jax.tree.map(lambda leaf: put(leaf, "devices"), plain)
        by_columns = (put(x, None, "devices"), by_rows[1], put(theta, None, "devices"))
        assert is_tall(by_rows[0]) and not is_tall(by_columns[0])
        for call, knowns in zip(CALLS, expected, strict=True):
            for arguments in (by_rows, by_columns):
                for found, known in zip(jax.tree.leaves(call(*arguments)), knowns, strict=True):
                    np.testing.assert_allclose(np.asarray(found, float), np.asarray(known, float), rtol=1e-12, atol=1e-12)

        # Rows of zeros fill up 61 rows; columns of zeros, copies of columns and fewer rows than columns keep their ranks.
        short = spread_rows(x[:61], mesh)
        assert short.shape == (64, 8)
        strange = [x[:61] * (np.arange(8) != 3), np.repeat(x[:61, :2], 4, axis=1), x[:61] * (np.arange(61) < 5)[:, None]]
        for known in (x[:61], *strange):
            found = feature_condition_number(spread_rows(known, mesh))
            for value, wanted in zip(found, feature_condition_number(jnp.asarray(known)), strict=True):
                np.testing.assert_allclose(value, wanted, rtol=1e-12)
        np.testing.assert_allclose(choose_ridge(short).score, choose_ridge(x[:61]).score, rtol=1e-10)
        for fold, factor in enumerate(dealt_factors(short, [put(np.pad(y[:61], (0, 3)), "devices")], folds=5)):
            rows = np.c_[x, y][:61][fold::5]
            np.testing.assert_allclose(factor.T @ factor, rows.T @ rows, rtol=1e-12, atol=1e-12)
        for _ in range(50):  # decompositions of eight devices at once
            found = few_rows(by_rows[0]), few_rows(by_rows[1].harmful.x), covariance(by_rows[0])
        jax.block_until_ready(found)

        # Traced, and spread over a batch.
        for measure in (condition_number, feature_condition_number):
            compiled = jax.jit(lambda s: measure(s).kappa)
            np.testing.assert_allclose(jax.block_until_ready(compiled(by_rows[0])), compiled(x), rtol=1e-9)
            gradient = jax.jit(jax.grad(lambda s: measure(s).kappa))
            np.testing.assert_allclose(jax.block_until_ready(gradient(by_rows[0])), gradient(x), rtol=1e-6, atol=1e-8)
            batch = x.reshape(8, 16, 8)
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
