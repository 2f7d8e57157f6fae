"""Training the last blocks: it learns, the penalties do what they are for, and interruptions do not show."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.small_networks import NETWORK, filled

from cimm_jax.errors import InputError
from cimm_jax.networks import functional
from cimm_jax.numerics.regularizers import well_coefficients
from cimm_jax.methods import tail_penalties
from cimm_jax.networks.paired_batches import paired_batches
from cimm_jax.networks.tail_checkpoint import TailCheckpoint
from cimm_jax.methods.tail_penalties import Batch
from cimm_jax.networks.training import Activations, Settings, train_tail

pytestmark = pytest.mark.usefixtures("standard_promotion")

CUT = "layer3.0"


@pytest.fixture(scope="module")
def tasks():
    parts = functional.split(filled(NETWORK), CUT)
    rng = np.random.default_rng(0)
    found = []
    for rows in (24, 16):
        labels = np.arange(rows) % 3
        images = np.float32(rng.normal(size=(3, 16, 16, 3))[labels] + 0.3 * rng.normal(size=(rows, 16, 16, 3)))
        found.append(Activations(np.asarray(functional.trunk(parts, images, CUT)), labels))
    return parts, *found


def test_batches_pair_rows_and_the_shorter_data_set_restarts():
    pairs = list(paired_batches(10, 4, 4, epoch=0, seed=0))
    assert [len(p) for pair in pairs for p in pair] == [4] * 4
    assert len(set(np.concatenate([p for p, _ in pairs]))) == 8, "no row of the longer one twice"
    assert sorted(pairs[0][1]) == sorted(pairs[1][1]) == [0, 1, 2, 3]
    again, other = (list(paired_batches(10, 4, 4, epoch=e, seed=0)) for e in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(pairs[0], again[0], strict=True))
    assert not np.array_equal(pairs[0][0], other[0][0])
    with pytest.raises(InputError, match="1 to 4"):
        next(paired_batches(10, 4, 5, epoch=0, seed=0))


@pytest.mark.slow
def test_plain_training_learns_and_leaves_the_trunk_alone(tasks):
    parts, primary, harmful = tasks
    trained = train_tail(
        parts,
        CUT,
        primary,
        harmful,
        settings=Settings(epochs=15, batch_rows=8, learning_rate=0.1),
    )
    assert trained.losses[-3:].mean() < 0.7 * trained.losses[:3].mean()
    same = jax.tree.map(lambda a, b: bool((a == b).all()), (parts.trunk, parts.batch_stats), trained.parts[2:5:2])
    assert all(jax.tree.leaves(same))
    assert not np.array_equal(jax.tree.leaves(parts.tail)[0], jax.tree.leaves(trained.parts.tail)[0])


def test_balanced_weights_bring_gradients_to_one_length(tasks):
    parts, primary, harmful = tasks
    once = Settings(epochs=1, batch_rows=16, learning_rate=1e-9)
    weights = {
        name: train_tail(parts, CUT, primary, harmful, penalties=make(), settings=once).weights
        for name, make in list(tail_penalties.BY_NAME.items())[:2]
    }
    assert all((w > 0).all() and np.isfinite(w).all() for w in weights.values())
    assert weights["algorithm1"][1] == pytest.approx(weights["ill_only"][0], rel=1e-4)
    stronger = dataclasses.replace(once, strength=30.0)
    thirty = train_tail(parts, CUT, primary, harmful, penalties=tail_penalties.ill_only(), settings=stronger).weights
    assert thirty == pytest.approx(30 * weights["ill_only"], rel=1e-4)
    given = train_tail(parts, CUT, primary, harmful, penalties=tail_penalties.ill_only(3.0), settings=once)
    assert given.weights == pytest.approx([3.0])


def test_the_identity_layer_leaves_coefficients_without_singular_values(rng):
    """grad R_well through the layer is F V diag(c_i) V^T, K cancelled."""
    features = jnp.asarray(rng.normal(size=(20, 5)) * np.geomspace(1, 3, 5))
    (well, _) = tail_penalties.algorithm1()
    other = jnp.ones((4, 5))
    got = jax.grad(lambda f: well.value(Batch(f, other, jnp.ones((4, 1)))))(features)
    u, sigma, vt = np.linalg.svd(np.asarray(features), full_matrices=False)
    expected = (u * sigma * np.asarray(well_coefficients(jnp.asarray(sigma**2)))) @ vt
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["opt_kappa", "imma"])
def test_a_step_down_each_baseline_moves_it_the_way_it_means(name, rng):
    primary, harmful = (jnp.asarray(rng.normal(size=(12, 4)) * np.geomspace(1, 3, 4)) for _ in range(2))
    targets = jnp.asarray(2.0 * (np.arange(12)[:, None] % 3 == np.arange(3)) - 1)
    for penalty in tail_penalties.BY_NAME[name]():
        value, gradient = jax.value_and_grad(lambda f, p=penalty: p.value(Batch(*f, targets)))((primary, harmful))
        moved = jax.tree.map(lambda x, g: x - 1e-3 * g, (primary, harmful), gradient)
        assert penalty.value(Batch(*moved, targets)) < value


@pytest.mark.slow
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(tasks, tmp_path):
    parts, primary, harmful = tasks
    settings = Settings(epochs=3, batch_rows=8, learning_rate=0.01)
    penalties = tail_penalties.ill_only()

    def train(**more):
        return train_tail(parts, CUT, primary, harmful, penalties=penalties, settings=settings, **more)

    def stop(steps):
        if steps == 7:
            raise KeyboardInterrupt

    checkpoint = TailCheckpoint(tmp_path, {"a": 1})
    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=checkpoint, progress=stop)
    made = []
    resumed = train(checkpoint=TailCheckpoint(tmp_path, {"a": 1}), progress=made.append)
    whole = train()
    assert made[0] == 7
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    for a, b in zip(jax.tree.leaves(resumed.parts), jax.tree.leaves(whole.parts), strict=True):
        np.testing.assert_array_equal(a, b)
    assert TailCheckpoint(tmp_path, {"a": 2}).restore(whole) is None


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epochs": 0}, "epochs"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"warmup": 1.0}, "warmup"),
        ({"label_smoothing": -0.1}, "label_smoothing"),
        ({"strength": 0.0}, "strength"),
    ],
)
def test_bad_settings_are_refused(settings, named):
    with pytest.raises(InputError, match=named):
        Settings(**settings)
    with pytest.raises(InputError, match="lambda_harmful"):
        tail_penalties.ill_only(-1.0)
    with pytest.raises(InputError, match="lower_steps"):
        tail_penalties.imma(lower_steps=0)
