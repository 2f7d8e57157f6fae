"""The baselines that train blocks alone, on a perceptron: what each paper claims of its method, and what is refused."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks.small_networks import filled
from pairs import make_pair
from sklearn.linear_model import LogisticRegression

from cimm_jax import InputError, Task, TaskPair, immunize, methods, stack_pairs
from cimm_jax.closed_form.explained_share import standardised
from cimm_jax.methods._blocks_alone import harmful_loss
from cimm_jax.methods._ntl import mean_discrepancy
from cimm_jax.methods._undo import from_equal
from cimm_jax.networks import functional
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.kept_head import opposed
from cimm_jax.networks.perceptron import PerceptronConfig
from cimm_jax.networks.renewing import renewed, train_and_renew
from cimm_jax.networks.tails import tail_features
from cimm_jax.networks.training import TrainingSettings, _depends_on, train_tail
from cimm_jax.numerics.penalty import KeptHead, Opposed
from cimm_jax.numerics.products import product
from cimm_jax.resuming import Checkpoint

pytestmark = pytest.mark.usefixtures("standard_promotion")

ALONE = ("ntl", "encoderlock", "undo")
CUT, CLASSES, ROWS = "layer0", 3, 300
SETTINGS = TrainingSettings(
    steps=60,
    batch_rows=60,
    harmful_rows=90,
    learning_rate=0.1,
    warmup=0.0,
    distillation=4.0,
    longest_gradient=1.0,
)


def labelled(seed, inputs):
    """Classes that these four of eight inputs tell, the others being noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(ROWS) % CLASSES
    x = rng.normal(size=(ROWS, 8))
    x[:, inputs] += 3 * np.eye(4)[labels]
    return Labelled(np.float32(x), labels)


class Scene:
    """A perceptron trained on the primary task, and both tasks; training rows and others."""

    def __init__(self):
        self.primary, self.harmful, self.others = (
            labelled(0, slice(4)),
            labelled(1, slice(4, 8)),
            labelled(2, slice(4, 8)),
        )
        parts = functional.split(filled(PerceptronConfig(8, (24, 12), CLASSES)), CUT)
        self.parts = self.trained(train_tail, parts, settings=SETTINGS).parts

    def trained(self, train, parts=None, settings=SETTINGS, **more):
        return train(self.parts if parts is None else parts, CUT, self.primary, self.harmful, settings=settings, **more)

    def defended(self, method, **more):
        if method.renewal is None:
            return self.trained(partial(train_tail, few=method.few), penalties=method.penalties, **more)
        return self.trained(partial(train_and_renew, renewal=method.renewal), penalties=method.penalties, **more)

    def kept(self, parts):
        """Accuracy of the network's own head on the primary task."""
        logits = functional.merge(parts).head(jnp.float32(tail_features(parts, self.primary.x, CUT)))
        return np.mean(np.asarray(logits).argmax(1) == self.primary.labels)

    def probed(self, parts):
        """Accuracy of a new linear probe of frozen features on harmful rows that it was not fitted to."""
        fitted, judged = (tail_features(parts, task.x, CUT) for task in (self.harmful, self.others))
        probe = LogisticRegression(max_iter=1000).fit(fitted - fitted.mean(0), self.harmful.labels)
        return probe.score(judged - fitted.mean(0), self.others.labels)


@pytest.fixture(scope="module")
def scene():
    made = Scene()
    assert made.kept(made.parts) > 0.9
    assert made.probed(made.parts) > 0.75
    return made


def shown(seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(12, 5)), np.eye(3)[np.arange(12) % 3]
    batch = TaskPair(Task(jnp.asarray(rng.normal(size=(9, 5)))), Task(jnp.asarray(x), jnp.asarray(y)))
    return Opposed(batch, jnp.asarray(spread * rng.normal(size=(12, 3))), jnp.asarray(0.5))


def test_ntl_is_the_papers_loss_up_to_its_bounds():
    seen = shown()
    ((penalty),) = methods.ntl(harmful_scale=0.2, distance_scale=0.3, bound=5.0).penalties
    apart = float(mean_discrepancy(seen.batch.primary.x, seen.batch.harmful.x))
    said = np.asarray(seen.scores)
    loss = -np.mean(np.sum(seen.batch.harmful.y * (said - np.log(np.exp(said).sum(1, keepdims=True))), 1))
    assert float(harmful_loss(seen)) == pytest.approx(loss)
    assert float(penalty.value(seen)) == pytest.approx(-0.2 * loss * 0.3 * apart)
    ((near),) = methods.ntl(harmful_scale=0.2, distance_scale=0.3, bound=0.01).penalties
    assert float(near.value(seen)) == pytest.approx(-0.2 * loss * 0.01), "the distance is bounded by itself"
    ((low),) = methods.ntl(harmful_scale=1e4, bound=1e-3).penalties
    assert float(low.value(seen)) == pytest.approx(-1e-3)


def test_the_discrepancy_is_its_definition_and_has_no_scale(rng):
    a, b = rng.normal(size=(7, 3)), rng.normal(size=(5, 3)) + 2
    both = np.concatenate([a, b])
    squares = ((both[:, None] - both[None]) ** 2).sum(-1)
    mean = squares.sum() / (12 * 11)
    kernel = sum(np.exp(-squares / (mean * 2.0**power)) for power in range(-2, 3))
    expected = kernel[:7, :7].mean() + kernel[7:, 7:].mean() - 2 * kernel[:7, 7:].mean()
    found, scaled, same = (float(mean_discrepancy(*map(jnp.asarray, two))) for two in ((a, b), (9 * a, 9 * b), (a, a)))
    assert found == pytest.approx(expected, rel=1e-6)
    assert scaled == pytest.approx(found, rel=1e-6)
    assert same == pytest.approx(0, abs=1e-9)
    gradient = jax.grad(lambda x: mean_discrepancy(x, x))(jnp.ones((4, 3)))
    assert np.isfinite(gradient).all(), "rows that are all the same have no distance"


def test_a_kept_head_learns_and_its_scores_are_passed_on_through_the_features_alone():
    batch, _, loss = shown()
    x, y = batch.harmful
    head, seen = opposed(jnp.zeros((5, 3)), KeptHead(50), batch, loss)
    assert float(harmful_loss(seen)) < np.log(3) - 0.1

    def told(x, head=None):
        found = opposed(jnp.zeros((5, 3)), KeptHead(50), batch._replace(harmful=Task(x, y)), loss)[1].scores
        return jnp.sin(found if head is None else product(standardised(x), head)).sum()

    np.testing.assert_allclose(jax.grad(told)(x), jax.grad(told)(x, head), rtol=1e-9, atol=1e-12)


def test_what_undo_lowers_is_zero_where_the_head_says_nothing():
    seen = shown()
    said = np.exp(seen.scores) / np.exp(seen.scores).sum(1, keepdims=True)
    assert float(from_equal(seen)) == pytest.approx(np.mean(np.sum(np.log((1 / 3) / said) / 3, 1)))
    assert float(from_equal(shown(spread=0.0))) == pytest.approx(0, abs=1e-12)


def test_ntl_takes_a_probe_of_frozen_features_and_keeps_the_primary_task(scene):
    defended = scene.defended(methods.ntl())
    assert scene.probed(defended.parts) < scene.probed(scene.parts) - 0.2
    assert scene.kept(defended.parts) > scene.kept(scene.parts) - 0.05


def test_encoderlock_changes_the_share_of_the_weights_that_it_chose_and_nothing_else(scene):
    method = methods.encoderlock(share=0.4, rounds=2)
    defended = scene.defended(method, settings=replace(SETTINGS, steps=150, learning_rate=0.02))
    assert scene.probed(defended.parts) < scene.probed(scene.parts) - 0.1
    assert scene.kept(defended.parts) > scene.kept(scene.parts) - 0.05
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), scene.parts.tail, defended.parts.tail)
    kernels = [leaf for leaf in jax.tree.leaves(moved) if leaf.ndim == 2]
    assert sum(leaf.sum() for leaf in kernels) == 2 * round(0.2 * (8 * 24 + 24 * 12))
    assert not any(leaf.any() for leaf in jax.tree.leaves(moved) if leaf.ndim == 1), "biases stay"
    for before, after in zip(jax.tree.leaves(scene.parts.head), jax.tree.leaves(defended.parts.head), strict=True):
        np.testing.assert_array_equal(before, after)


def test_undo_recovers_the_primary_task_after_the_noise_and_goes_on_within_either_part(scene, tmp_path):
    method = methods.undo(shrink=0.9, noise=1.0)

    def stop(made):
        if made == 45:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scene.defended(method, checkpoint=Checkpoint(tmp_path, {}), progress=stop)
    made = []
    defended = scene.defended(method, checkpoint=Checkpoint(tmp_path, {}), progress=made.append, observe=scene.kept)
    assert made == list(range(41, 61)), "the second part goes on from its second epoch, the first is not made again"
    assert (len(defended.losses), len(defended.weights), len(defended.observed)) == (60, 1, 2)
    assert defended.losses[30] > 2 * defended.losses[29], "the noise came between"
    unlearned = scene.trained(
        train_tail,
        penalties=method.penalties,
        settings=replace(SETTINGS, steps=30),
    ).parts
    assert scene.probed(unlearned) < scene.probed(scene.parts) - 0.2
    tail, head = renewed(unlearned, CUT, method.renewal, SETTINGS.seed)
    noised = scene.kept(unlearned._replace(tail=tail, head=head))
    assert noised < scene.kept(defended.parts) - 0.2
    assert scene.kept(defended.parts) > scene.kept(scene.parts) - 0.05


def test_renewed_weights_are_the_papers_mixture(scene):
    nothing, all_of_it = (
        renewed(scene.parts, CUT, methods.undo(shrink=shrink, noise=noise).renewal, 0)
        for shrink, noise in ((1.0, 0.0), (1.0, 1.0))
    )
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(nothing))
    mixed = renewed(scene.parts, CUT, methods.undo(shrink=0.25, noise=0.5).renewal, 0)
    for got, own, fresh in zip(*map(jax.tree.leaves, (mixed, scene.parts[1:4:2], all_of_it)), strict=True):
        np.testing.assert_allclose(got, 0.75 * own + 0.125 * fresh, rtol=1e-5, atol=1e-7)


def test_states_on_the_way_depend_on_every_setting(scene):
    made = [
        methods.ntl(),
        methods.ntl(bound=0.5),
        methods.ntl(harmful_scale=0.5),
        methods.ntl(distance_scale=0.5),
        methods.ntl(head_steps=3),
        methods.encoderlock(),
        methods.encoderlock(alpha=1.0),
        methods.encoderlock(share=0.1),
        methods.encoderlock(rounds=1),
        methods.undo(),
    ]
    told = [
        json.dumps(_depends_on(scene.parts, CUT, scene.primary, scene.harmful, it.penalties, it.few, SETTINGS))
        for it in made
    ]
    assert len(set(told)) == len(made)


@pytest.mark.parametrize(
    ("name", "setting", "values"),
    [
        *((name, "head_steps", (0,)) for name in ALONE),
        *((name, "lambda_harmful", (-1.0, float("nan"))) for name in ALONE),
        *(("ntl", setting, (0.0, float("inf"))) for setting in ("harmful_scale", "distance_scale", "bound")),
        ("encoderlock", "share", (0.0, 1.5)),
        ("encoderlock", "rounds", (0,)),
        ("encoderlock", "alpha", (0.0,)),
        ("undo", "shrink", (0.0, 1.1)),
        ("undo", "noise", (-0.1,)),
        ("undo", "unlearning", (0.0, 1.0)),
    ],
)
def test_settings_out_of_range_are_refused(name, setting, values):
    for value in values:
        with pytest.raises(InputError, match=f"^{setting}: needs "):
            methods.KNOWN[name](**{setting: value})


@pytest.mark.parametrize("name", ALONE)
def test_they_make_no_maps(name):
    method, pair = methods.KNOWN[name](), make_pair()
    with pytest.raises(InputError, match=r"^method: it trains blocks of a network and makes no map; use cimm immunize"):
        immunize(method, pair)
    with pytest.raises(InputError, match=rf"^methods\['{name}'\]: it trains blocks"):
        methods.sweep({name: method}, stack_pairs([pair]), keys=jax.random.split(jax.random.key(0), 1), steps=1)
    with pytest.raises(InputError, match=r"^method: trains blocks of a network and makes no map$"):
        method.init(jax.random.key(0), pair)
