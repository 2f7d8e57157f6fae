import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks.small_networks import SMALL, filled, images

from cimm_jax.errors import InputError
from cimm_jax.networks import build, functional

MIDDLE = {
    "resnet_transformers": "layer2.1",
    "vit_transformers": "block1",
    "resnet_cifar": "layer2.0",
    "efficientnet": "block2",
    "linear": "linear",
}


QUICK = ["resnet_cifar", "vit_transformers", "linear"]
"""For what takes long to compile and is nobody's own."""


@pytest.fixture(scope="module", params=SMALL)
def network(request):
    return filled(SMALL[request.param]), MIDDLE[request.param]


def paths(state):
    return {path for path, _ in nnx.to_flat_state(state)}


def test_the_tail_of_the_trunk_is_the_features_at_every_cut(network):
    model, _ = network
    x = images(model.config)

    @jax.jit
    def through(parts, x):
        joined = [functional.tail(parts, functional.trunk(parts, x, cut), cut) for cut in model.cuts]
        return functional.features(parts, x), functional.logits(parts, x), joined

    features, logits, joined = through(functional.split(model), x)
    assert features.shape == (2, model.head.in_features)
    assert features.dtype == jnp.float32
    for other in joined:
        np.testing.assert_allclose(other, features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits, model.head(features), rtol=1e-5, atol=1e-6)


def test_the_first_trunk_and_the_last_tail_are_empty(network):
    model, _ = network
    x = images(model.config)
    np.testing.assert_array_equal(model.trunk(x, model.cuts[0]), x)
    features = jnp.ones((2, model.head.in_features), jnp.float32)
    np.testing.assert_array_equal(model.tail(features, "features"), features)


@pytest.mark.parametrize("name", QUICK)
def test_features_change_with_every_parameter_of_the_tail_and_with_none_of_the_trunk(name):
    model, cut = filled(SMALL[name]), MIDDLE[name]
    parts = functional.split(model, cut)

    @jax.jit
    def gradient(parts, x):
        activations = functional.trunk(parts, x, cut)
        return jax.grad(lambda parts: jnp.sum(functional.tail(parts, activations, cut) ** 3))(parts)

    got = gradient(parts, images(model.config, 4))
    for path, leaf in nnx.to_flat_state(got.tail):
        # Softmax does not see what is added to every score of a query, as the bias of the keys is.
        assert path[-2:] == ("key", "bias") or np.any(leaf[...] != 0), path
    assert not any(np.any(leaf != 0) for leaf in jax.tree.leaves((got.trunk, got.head)))


def test_a_cut_divides_the_parameters(network):
    model, cut = network
    parts = functional.split(model, cut)
    before = set(model.cuts[: model.cuts.index(cut)])
    assert {path[1] for path in paths(parts.trunk)} <= before
    assert {path[1] for path in paths(parts.tail)} <= set(model.cuts) - before
    assert paths(parts.head) == {("head", "kernel"), ("head", "bias")}
    everything = paths(nnx.state(model, nnx.Param))
    assert len(paths(parts.trunk)) + len(paths(parts.tail)) + 2 == len(everything)
    assert paths(parts.trunk) | paths(parts.tail) | paths(parts.head) == everything
    assert paths(functional.split(model).trunk) == set()
    assert paths(functional.split(model, "features").tail) == set()


def test_cut_points_have_the_names_of_the_blocks():
    expected = "stem layer1.0 layer1.1 layer2.0 layer2.1 layer3.0 layer4.0 pool features"
    assert filled(SMALL["resnet_transformers"]).cuts == tuple(expected.split())


@pytest.mark.parametrize("use", ["trunk", "tail", "in_tail", "split"])
def test_an_unknown_cut_is_refused_with_the_known_ones(use):
    model = build(SMALL["linear"], jax.random.key(0))
    x = jnp.zeros((1, 12), jnp.float32)
    uses = {
        "trunk": lambda: model.trunk(x, "layer9"),
        "tail": lambda: model.tail(x, "layer9"),
        "in_tail": lambda: model.in_tail("layer9"),
        "split": lambda: functional.split(model, "layer9"),
    }
    with pytest.raises(InputError, match="cut: 'layer9' is unknown; choose one of linear, features"):
        uses[use]()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet_cifar", (2, 3, 16, 16)),
        ("resnet_cifar", (16, 16, 3)),
        ("vit_transformers", (2, 20, 20, 3)),
        ("linear", (2, 3, 3)),
    ],
)
def test_inputs_of_another_shape_are_refused(name, shape):
    with pytest.raises(InputError, match=r"x: needs shape .*, got"):
        filled(SMALL[name]).features(jnp.zeros(shape, jnp.float32))


def test_inputs_and_activations_of_another_dtype_are_refused():
    model = build(SMALL["linear"], jax.random.key(0))
    with pytest.raises(InputError, match="x: needs the parameters' dtype float32, got uint8"):
        model.features(jnp.zeros((1, 2, 2, 3), jnp.uint8))
    with pytest.raises(InputError, match="activations: needs the parameters' dtype float32, got float64"):
        model.tail(jnp.zeros((1, 12), jnp.float64), "linear")


@pytest.mark.parametrize("name", QUICK)
def test_float64_parameters_give_float64_features(name):
    model = filled(SMALL[name])
    parts = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), functional.split(model))
    x = images(model.config)
    with jax.numpy_dtype_promotion("standard"):  # flax's layer normalisation asks for it with float64
        exact = jax.jit(functional.features)(parts, x.astype(jnp.float64))
    assert exact.dtype == jnp.float64
    np.testing.assert_allclose(exact, jax.jit(functional.features)(functional.split(model), x), rtol=1e-4, atol=1e-4)


def test_the_linear_extractor_is_x_times_theta_and_starts_at_the_identity():
    model = build(SMALL["linear"], jax.random.key(0))
    x = jnp.arange(24, dtype=jnp.float32).reshape(2, 12)
    np.testing.assert_array_equal(model.features(x), x[:, :8])
    theta = jax.random.normal(jax.random.key(0), (12, 8), jnp.float32)
    model.parts["linear"].theta.kernel[...] = theta
    np.testing.assert_allclose(model.features(x.reshape(2, 2, 2, 3)), x @ theta, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "cut", "unit", "keep"),
    [("resnet_cifar", "layer3.0", "first", 0.9), ("efficientnet", "top", "inner", 0.99)],
)
def test_training_normalises_by_the_batch_and_updates_the_tail_alone(name, cut, unit, keep):
    model = filled(SMALL[name])
    parts = functional.split(model)
    activations = jax.jit(functional.trunk, static_argnames="cut")(parts, images(model.config, 8), cut)
    features, stats = jax.jit(functional.train_tail, static_argnames="cut")(parts, activations, cut)
    assert not np.allclose(features, functional.tail(parts, activations, cut), rtol=1e-2)
    before, after = (dict(nnx.to_flat_state(state)) for state in (parts.batch_stats, stats))
    assert before.keys() == after.keys()
    tail = set(model.cuts[model.cuts.index(cut) :])
    for path in before:
        assert np.array_equal(before[path][...], after[path][...]) == (path[1] not in tail), path

    batch = np.asarray(getattr(model.parts[cut], unit).conv(activations))
    for statistic, expected in (("mean", batch.mean((0, 1, 2))), ("var", batch.var((0, 1, 2)))):
        path = ("parts", cut, unit, "norm", statistic)
        np.testing.assert_allclose(
            after[path][...], keep * before[path][...] + (1 - keep) * expected, rtol=1e-4, atol=1e-6
        )

    of_batch = jax.jit(functional.batch_statistics, static_argnames="cut")(parts, activations, cut)
    served = jax.jit(functional.tail, static_argnames="cut")(parts._replace(batch_stats=of_batch), activations, cut)
    np.testing.assert_allclose(served, features, rtol=1e-4, atol=1e-5)
    for path, leaf in nnx.to_flat_state(of_batch):
        assert np.array_equal(before[path][...], leaf[...]) == (path[1] not in tail), path


def test_parts_from_outside_of_what_is_traced_train_inside_of_it():
    parts = functional.split(filled(SMALL["resnet_cifar"]), "layer3.0")
    activations = jnp.ones((2, 8, 8, 8), jnp.float32)
    before = jax.tree.map(np.asarray, parts.batch_stats)

    @jax.jit
    def gradient(parts):
        def value(tail):
            inside = parts._replace(tail=tail)
            stored = functional.batch_statistics(inside, activations, "layer3.0")
            return functional.train_tail(inside, activations, "layer3.0")[0].sum() + sum(
                map(jnp.sum, jax.tree.leaves(stored))
            )

        return jax.grad(value)(parts.tail)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(parts)))
    jax.tree.map(np.testing.assert_array_equal, before, parts.batch_stats)


def test_serving_leaves_the_stored_statistics_alone():
    model = filled(SMALL["resnet_cifar"])
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.BatchStat))
    model(images(model.config))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, nnx.state(model, nnx.BatchStat)))


def test_new_parameters_do_not_trace_again():
    model = build(SMALL["linear"], jax.random.key(0))
    traces = []

    @jax.jit
    def features(parts, x):
        traces.append(1)
        return functional.features(parts, x)

    for key in range(3):
        features(functional.split(filled(SMALL["linear"], key)), images(model.config))
    assert len(traces) == 1


def test_the_tail_alone_can_be_handed_to_an_optimizer():
    import optax

    model = filled(SMALL["resnet_cifar"])
    wanted = nnx.All(nnx.Param, model.in_tail("layer3.0"))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=wanted)
    gradient = nnx.grad(lambda model: model.features(images(model.config)).sum(), argnums=nnx.DiffState(0, wanted))
    before = dict(nnx.to_flat_state(jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))))
    optimizer.update(model, gradient(model))
    changed = {
        path[1]
        for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))
        if not np.array_equal(value[...], before[path][...])
    }
    assert changed == {"layer3.0"}
