"""Low-rank adapters: on which kernels, how wide, what they start from and what they can reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.small_networks import SMALL, filled

from cimm_jax import InputError
from cimm_jax.networks import functional, lora


def tail(name, cut=None):
    return functional.split(filled(SMALL[name]), cut).tail


def flat(params):
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(params)}


def with_factors(made, rng):
    """The adapters with B drawn, too."""
    return {path: pair._replace(b=rng.standard_normal(pair.b.shape).astype(np.float32)) for path, pair in made.items()}


@pytest.mark.parametrize(
    ("name", "cut"),
    [("resnet_cifar", "layer2.1"), ("vit_transformers", None), ("efficientnet", "block2"), ("linear", None)],
)
def test_they_are_on_every_kernel_but_depthwise_ones_and_change_nothing_at_first(name, cut):
    params = tail(name, cut)
    made = jax.jit(lambda params, key: lora.adapters(params, 2, key))(params, jax.random.key(0))
    kernels = {path: kernel for path, kernel in flat(params).items() if path[-1] == "kernel"}
    assert made.keys() == lora.widths(params).keys()
    assert made.keys() == {path for path in kernels if "depthwise" not in path}
    assert len(made) < len(kernels) or name != "efficientnet"
    for path, (a, b) in made.items():
        assert a.shape == (kernels[path].size // kernels[path].shape[-1], 2)
        assert b.shape == (2, kernels[path].shape[-1])
    start = lora.adapted(params, made, 16.0)
    assert jax.tree.structure(start) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, start, params)


def test_entries_of_a_have_the_variance_of_one_over_its_rows():
    params = tail("vit_transformers")
    made = lora.adapters(params, 8, jax.random.key(0))
    sizes = np.concatenate([(np.asarray(pair.a) * len(pair.a) ** 0.5).ravel() for pair in made.values()])
    assert np.std(sizes) == pytest.approx(1, abs=0.05)
    assert len({float(pair.a[0, 0]) for pair in made.values()}) == len(made)
    assert all(not np.asarray(pair.b).any() for pair in made.values())


def test_a_change_is_the_scaled_product_over_the_rank(rng):
    params = tail("resnet_cifar", "layer3.0")
    made = with_factors(lora.adapters(params, 3, jax.random.key(1)), rng)
    before, after = flat(params), flat(lora.adapted(params, made, 6.0))
    for path, kernel in before.items():
        change = np.zeros_like(kernel)
        if path in made:
            a, b = (np.asarray(factor, np.float64) for factor in made[path])
            # A patch times the kernel is a patch times A, times B: axes height, width and inputs are rows in this order.
            change = 2 * np.einsum("hwir,ro->hwio", a.reshape(*kernel.shape[:3], 3), b)
        np.testing.assert_allclose(after[path], kernel + change, atol=1e-5)


def test_narrow_layers_get_their_full_rank_which_reaches_any_change(rng):
    params = tail("resnet_cifar")
    widths = lora.widths(params)
    widest = max(widths.values())
    made = lora.adapters(params, widest, jax.random.key(0))
    assert {path: pair.a.shape[1] for path, pair in made.items()} == widths
    assert len(set(widths.values())) > 1
    goal = {path: rng.standard_normal(kernel.shape).astype(np.float32) for path, kernel in flat(params).items()}
    found = {}
    for path, kernel in flat(params).items():
        if path in made:
            change = (goal[path] - kernel).reshape(-1, kernel.shape[-1])
            u, s, vt = np.linalg.svd(change, full_matrices=False)
            found[path] = lora.Adapter(jnp.asarray(u * s * widths[path]), jnp.asarray(vt))
            assert found[path].a.shape == made[path].a.shape
            assert found[path].b.shape == made[path].b.shape
    reached = flat(lora.adapted(params, found))
    for path in made:
        np.testing.assert_allclose(reached[path], goal[path], atol=1e-4)


@pytest.mark.parametrize("rank", [0, -1, 13])
def test_ranks_that_no_layer_has_are_refused_with_the_widest(rank):
    with pytest.raises(InputError, match=f"rank: needs 1 to 12, the full rank of the widest layer, got {rank}"):
        lora.adapters(tail("resnet_cifar"), rank, jax.random.key(0))


def test_a_tail_without_kernels_is_refused():
    with pytest.raises(InputError, match="params: have no kernel"):
        lora.adapters(tail("vit_transformers", "norm"), 1, jax.random.key(0))
