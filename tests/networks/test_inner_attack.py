"""Attackers within a step of training, against the same steps written out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from networks.small_networks import NETWORK, filled

from cimm_jax.closed_form.explained_share import linear_share
from cimm_jax.networks import functional
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.inner_attack import attacked_features
from cimm_jax.networks.training import TrainingSettings, train_tail
from cimm_jax.numerics.penalty import InnerAttack, Penalty

pytestmark = pytest.mark.usefixtures("standard_promotion")

CUT = "layer3.0"


@pytest.fixture(scope="module")
def scene():
    parts = functional.split(filled(NETWORK), CUT)
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 3
    images = np.float32(rng.normal(size=(3, 16, 16, 3))[labels] + 0.5 * rng.normal(size=(24, 16, 16, 3)))
    return parts, jnp.asarray(functional.trunk(parts, images, CUT)), jnp.eye(3)[labels], labels


def features_of(parts, tail, x):
    model = functional.merge(parts._replace(tail=tail))
    model.train()
    return model.tail(x, CUT)


def test_it_makes_steps_of_the_length_of_its_turn(scene):
    parts, x, y, _ = scene
    attack = InnerAttack(linear_share, 2, (0.05, 0.2))

    def written_out(rate):
        tail = parts.tail
        for _ in range(2):
            gradient = jax.grad(lambda at: linear_share(features_of(parts, at, x), y))(tail)
            tail = optax.tree.add_scale(tail, rate / optax.tree.norm(gradient), gradient)
        return features_of(parts, tail, x)

    run = jax.jit(lambda turn: attacked_features(parts, parts.tail, CUT, attack, turn, (x, y), x))
    for turn, rate in ((0, 0.05), (1, 0.2), (2, 0.05)):
        np.testing.assert_allclose(run(turn), written_out(rate), rtol=2e-4, atol=2e-5)
    before, after = (float(linear_share(f, y)) for f in (features_of(parts, parts.tail, x), run(1)))
    assert after > before


def test_an_attacker_without_a_gradient_stays(scene):
    parts, x, y, _ = scene
    nothing = InnerAttack(lambda features, _: 0 * features.sum(), 3, (1.0,))
    found = attacked_features(parts, parts.tail, CUT, nothing, jnp.asarray(0), (x, y), x)
    np.testing.assert_allclose(found, features_of(parts, parts.tail, x), rtol=1e-5, atol=1e-6)


def test_training_lowers_what_is_left_after_the_attack(scene):
    parts, x, _, labels = scene
    shown = []

    def share(batch):
        shown.append(batch.harmful.x.shape)
        return linear_share(batch.harmful.x, batch.harmful.y)

    penalty = Penalty(share, 30.0, after=InnerAttack(linear_share, 1, (0.1,)))
    primary = Labelled(np.asarray(x), labels)
    settings = TrainingSettings(
        steps=25, batch_rows=12, harmful_rows=24, learning_rate=0.05, warmup=0.0, longest_gradient=1.0
    )
    trained = train_tail(parts, CUT, primary, primary, penalties=[penalty], settings=settings)
    assert set(shown) == {(12, 12)}, "half of the harmful rows are the attacker's"

    def reached(parts):
        own = (x[::2], jnp.eye(3)[labels[::2]])
        moved = attacked_features(parts, parts.tail, CUT, penalty.after, jnp.asarray(0), own, x[1::2])
        return float(linear_share(moved, jnp.eye(3)[labels[1::2]]))

    assert reached(trained.parts) < reached(parts) - 0.1
