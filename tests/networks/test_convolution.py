"""Convolutions and their gradients are those of XLA, whatever form they are computed in."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cimm_jax.errors import InputError
from cimm_jax.networks import convolution
from cimm_jax.networks.convolution import SAME, Convolution, Padding, convolve


class Case(NamedTuple):
    images: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: int = 1
    padding: Padding = 1


CASES = {
    "pairs": Case((4, 6, 8, 12), (3, 3, 12, 10)),
    "pairs after padded channels": Case((2, 6, 8, 3), (3, 3, 3, 12)),
    "an odd width has no pairs": Case((2, 6, 7, 12), (3, 3, 12, 10)),
    "few outputs": Case((2, 4, 6, 16), (3, 3, 16, 4)),
    "many channels": Case((2, 5, 6, 8), (3, 3, 8, 20)),
    "not square": Case((2, 6, 8, 9), (3, 5, 9, 10)),
    "without padding": Case((2, 6, 8, 9), (3, 3, 9, 10), padding=0),
    "more padding than a kernel": Case((2, 4, 4, 9), (3, 3, 9, 10), padding=3),
    "even kernel": Case((2, 6, 8, 9), (2, 2, 9, 10), padding=SAME),
    "stride": Case((2, 6, 8, 5), (3, 3, 5, 6), stride=2),
    "stride and an odd size": Case((3, 7, 9, 5), (3, 3, 5, 6), stride=2),
    "stride, all padding at the end": Case((2, 8, 8, 3), (3, 3, 3, 4), stride=2, padding=SAME),
    "large window": Case((2, 12, 12, 3), (7, 7, 3, 4), stride=2, padding=3),
    "pointwise": Case((2, 5, 6, 8), (1, 1, 8, 4), padding=SAME),
    "pointwise with stride": Case((2, 7, 8, 4), (1, 1, 4, 6), stride=2, padding=0),
    "pointwise with padding": Case((2, 4, 4, 4), (1, 1, 4, 6)),
}


def plain(x, kernel, case: Case):
    pads = [(case.padding,) * 2] * 2 if isinstance(case.padding, int) else case.padding
    strides = (case.stride, case.stride)
    return jax.lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def ours(x, kernel, case: Case):
    return convolve(x, kernel, stride=case.stride, padding=case.padding)


def arrays(case: Case, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in (case.images, case.kernel)]


def value_and_gradients(convolve, case: Case, x, kernel):
    """The convolution, and gradients of a loss of it that weighs every output differently."""

    def loss(x, kernel):
        y = convolve(x, kernel, case)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape))), y

    gradients, value = jax.grad(loss, (0, 1), has_aux=True)(x, kernel)
    return value, *gradients


def assert_close(found, expected, tolerance):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * float(np.abs(other).max()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_xla(name, dtype):
    case = CASES[name]
    x, kernel = arrays(case, dtype)

    @jax.jit
    def both(x, kernel):
        return value_and_gradients(ours, case, x, kernel), value_and_gradients(plain, case, x, kernel)

    assert_close(*both(x, kernel), 1e-12 if dtype == jnp.float64 else 1e-5)


@pytest.mark.parametrize("cached", [1, 6000, 1 << 30])
@pytest.mark.parametrize("name", ["pairs", "stride and an odd size"])
def test_the_gradient_is_the_same_whatever_a_cache_holds(monkeypatch, name, cached):
    case = CASES[name]
    monkeypatch.setattr(convolution, "_CACHED_BYTES", cached)
    monkeypatch.setattr(convolution, "_WHOLE_SUMS", 0)
    x, kernel = arrays(case, jnp.float64)
    gradient = jax.jit(lambda x, kernel: value_and_gradients(ours, case, x, kernel)[2])
    loops = gradient.lower(x, kernel).as_text().count("stablehlo.while")
    assert_close(gradient(x, kernel), value_and_gradients(plain, case, x, kernel)[2], 1e-12)
    assert loops == 1


@pytest.mark.parametrize("name", ["pairs", "stride", "pointwise"])
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=["images", "kernels", "both"])
def test_a_batch_of_convolutions(name, axes):
    case = CASES[name]
    copies = [a if axis is None else jnp.stack([a, 2 * a, -a]) for a, axis in zip(arrays(case), axes, strict=True)]

    @jax.jit
    def both(*copies):
        return [jax.vmap(partial(value_and_gradients, each, case), axes)(*copies) for each in (ours, plain)]

    assert_close(*both(*copies), 1e-5)


@pytest.mark.parametrize("name", ["pairs", "stride", "pointwise with stride"])
def test_gradients_of_gradients(name):
    case = CASES[name]
    x, kernel = arrays(case, jnp.float64)

    def second(each, x, kernel):
        def slope(x, kernel):
            _, dx, dk = value_and_gradients(lambda *a: each(*a) ** 2, case, x, kernel)
            return jnp.sum(dx**2) + jnp.sum(jnp.sin(dk))

        return jax.grad(slope, (0, 1))(x, kernel)

    both = jax.jit(lambda x, kernel: [second(each, x, kernel) for each in (ours, plain)])
    assert_close(*both(x, kernel), 1e-10)


def test_nothing_runs_another_platforms_form():
    """Of the forms for each platform only one is compiled."""
    case = CASES["pointwise"]
    compiled = jax.jit(partial(value_and_gradients, ours, case)).lower(*arrays(case)).compile().as_text()
    assert "convolution(" not in compiled
    assert "conditional(" not in compiled


def test_the_layer_has_the_parameters_of_flax():
    ours = Convolution(3, 8, 5, stride=2, padding=2, rngs=nnx.Rngs(0))
    init = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")
    theirs = nnx.Conv(3, 8, (5, 5), strides=2, padding=2, use_bias=False, kernel_init=init, rngs=nnx.Rngs(0))
    state, expected = (nnx.to_pure_dict(nnx.state(layer)) for layer in (ours, theirs))
    assert state.keys() == expected.keys()
    np.testing.assert_array_equal(state["kernel"], expected["kernel"])
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 9, 8, 3)), jnp.float32)
    scale = jnp.arange(8, dtype=jnp.float32)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours(x, scale), theirs(x) * scale[None, None, None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "kernel", "dtype", "named"),
    [
        ((2, 5, 5, 3), (3, 3, 4, 8), "float32", r"x and kernel: .*got \(2, 5, 5, 3\) and \(3, 3, 4, 8\)"),
        ((5, 5, 3), (3, 3, 3, 8), "float32", r"x and kernel: .*got \(5, 5, 3\)"),
        ((2, 5, 5, 3), (3, 3, 3, 8), "float64", "x: needs the kernel's dtype float32, got float64"),
    ],
)
def test_what_does_not_go_together_is_refused(x, kernel, dtype, named):
    with pytest.raises(InputError, match=named):
        convolve(jnp.zeros(x, dtype), jnp.zeros(kernel, jnp.float32))
