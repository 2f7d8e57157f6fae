"""Training the last blocks: it learns, the penalties do what they are for, and interruptions do not show."""

import dataclasses

import jax
import numpy as np
import pytest
from networks.small_networks import NETWORK, filled

from cimm_jax import InputError, interruption, methods
from cimm_jax.networks import functional
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.training import TrainingSettings, train_tail
from cimm_jax.numerics.penalty import Penalty
from cimm_jax.resuming import Checkpoint

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
        found.append(Labelled(np.asarray(functional.trunk(parts, images, CUT)), labels))
    return parts, *found


@pytest.mark.slow
def test_plain_training_learns_and_leaves_the_trunk_alone(tasks):
    parts, primary, harmful = tasks
    trained = train_tail(
        parts,
        CUT,
        primary,
        harmful,
        settings=TrainingSettings(epochs=15, batch_rows=8, learning_rate=0.1),
    )
    assert trained.losses[-3:].mean() < 0.7 * trained.losses[:3].mean()
    same = jax.tree.map(lambda a, b: bool((a == b).all()), (parts.trunk, parts.batch_stats), trained.parts[2:5:2])
    assert all(jax.tree.leaves(same))
    assert not np.array_equal(jax.tree.leaves(parts.tail)[0], jax.tree.leaves(trained.parts.tail)[0])


def test_balanced_weights_bring_gradients_to_one_length(tasks):
    parts, primary, harmful = tasks
    once = TrainingSettings(epochs=1, batch_rows=16, learning_rate=1e-9)

    def weights(method, settings=once):
        return train_tail(parts, CUT, primary, harmful, penalties=method.penalties, settings=settings).weights

    found = {name: weights(methods.BY_NAME[name]()) for name in ("algorithm1", "ill_only")}
    assert all((w > 0).all() and np.isfinite(w).all() for w in found.values())
    assert found["algorithm1"][1] == pytest.approx(found["ill_only"][0], rel=1e-4)
    thirty = weights(methods.ill_only(), dataclasses.replace(once, strength=30.0))
    assert thirty == pytest.approx(30 * found["ill_only"], rel=1e-4)
    assert weights(methods.ill_only(lambda_harmful=3.0)) == pytest.approx([3.0])


def test_penalties_are_shown_features_of_both_tasks_and_harmful_targets_of_classes(tasks):
    parts, primary, harmful = tasks
    shown = []

    def value(batch):
        shown.append(jax.tree.map(lambda leaf: leaf.shape, batch))
        return batch.harmful.x.sum() + batch.harmful.y.sum()

    once = TrainingSettings(epochs=1, batch_rows=16)
    train_tail(parts, CUT, primary, harmful, penalties=(Penalty(value, 1.0),), settings=once)
    assert shown[0].primary == ((16, 12), None)
    assert shown[0].harmful == ((16, 12), (16, 3))


def test_trainings_that_differ_in_weight_strength_and_seed_alone_share_their_programs(tasks):
    parts, primary, harmful = tasks
    traced = []

    def value(batch):
        traced.append(batch)
        return (batch.harmful.x**2).sum()

    def train(weight, **more):
        settings = TrainingSettings(epochs=1, batch_rows=16, learning_rate=0.01, warmup=0.0, **more)
        return train_tail(parts, CUT, primary, harmful, penalties=(Penalty(value, weight),), settings=settings)

    first, made = train(None), len(traced)
    others = [train(2.0), train(None, seed=1), train(None, strength=3.0, seed=1)]
    assert made
    assert len(traced) == made
    assert float(others[0].weights[0]) == 2.0
    assert others[2].weights == pytest.approx(3 * others[1].weights)
    moved = [np.asarray(jax.tree.leaves(of.parts.tail)[0]) for of in (first, *others)]
    assert not any(np.array_equal(moved[0], of) for of in moved[1:])
    train(0.5, label_smoothing=0.1)
    assert len(traced) > made, "what a step depends on is not shared"


@pytest.mark.slow
def test_an_interrupted_training_goes_on_as_if_nothing_had_happened(tasks, tmp_path):
    parts, primary, harmful = tasks
    settings = TrainingSettings(epochs=3, batch_rows=8, learning_rate=0.01)
    seen = []

    def train(**more):
        def observe(parts):
            seen.append(float(jax.tree.leaves(parts.tail)[0].sum()))
            return seen[-1]

        penalties = methods.ill_only().penalties
        return train_tail(parts, CUT, primary, harmful, penalties=penalties, settings=settings, observe=observe, **more)

    def stop(steps):
        if steps == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(checkpoint=Checkpoint(tmp_path, {"a": 1}), progress=stop)
    made, observed = [], len(seen)
    resumed = train(checkpoint=Checkpoint(tmp_path, {"a": 1}), progress=made.append)
    assert made[0] == 7
    assert len(seen) == observed + 1, "what was observed before is not observed again"
    whole = train()
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    np.testing.assert_array_equal(resumed.weights, whole.weights)
    assert resumed.observed == whole.observed
    for a, b in zip(jax.tree.leaves(resumed.parts), jax.tree.leaves(whole.parts), strict=True):
        np.testing.assert_array_equal(a, b)
    from_scratch = []
    train(checkpoint=Checkpoint(tmp_path, {"a": 2}), progress=from_scratch.append)
    assert from_scratch[0] == 1, "another made_by starts anew"


def make(tasks, folder, epochs=2, method=methods.ill_only, made_by=None, **more):
    """A short training that saves in the folder, and the numbers of the steps that it made."""
    parts, primary, harmful = more.pop("data", tasks)
    settings = TrainingSettings(epochs=epochs, batch_rows=8, learning_rate=0.01, **more.pop("settings", {}))
    made = []

    def told(steps):
        made.append(steps)
        more.get("progress", int)(steps)

    trained = train_tail(
        parts,
        CUT,
        primary,
        harmful,
        penalties=method().penalties,
        settings=settings,
        checkpoint=Checkpoint(folder, made_by),
        progress=told,
    )
    return trained, made


def test_more_epochs_are_another_training_whoever_made_the_checkpoint(tasks, tmp_path):
    make(tasks, tmp_path / "two", epochs=1)
    again, made = make(tasks, tmp_path / "two", epochs=2)
    fresh, _ = make(tasks, tmp_path / "fresh", epochs=2)
    assert made == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(again.losses, fresh.losses)


@pytest.mark.slow
def test_what_else_a_state_depends_on_starts_a_training_anew(tasks, tmp_path):
    parts, primary, harmful = tasks
    assert make(tasks, tmp_path)[1] == [1, 2, 3, 4, 5, 6]
    assert make(tasks, tmp_path)[1] == [], "it is finished"
    moved = parts._replace(head=jax.tree.map(lambda leaf: leaf + 1, parts.head))
    relabelled = harmful._replace(labels=harmful.labels[::-1].copy())
    for other in (
        {"method": methods.algorithm1},
        {"method": lambda: methods.ill_only(lambda_harmful=2.0)},
        {"settings": {"strength": 2.0}},
        {"settings": {"seed": 1}},
        {"data": (moved, primary, harmful)},
        {"data": (parts, primary, relabelled)},
        {"made_by": "something else"},
    ):
        assert make(tasks, tmp_path, **other)[1] == [1, 2, 3, 4, 5, 6], other


def test_a_signal_saves_in_the_middle_of_an_epoch_and_the_training_ends_as_if_it_had_not_come(
    tasks, tmp_path, monkeypatch
):
    def signal(steps):
        monkeypatch.setattr(interruption, "_state", interruption._State(waits=steps == 4))

    with pytest.raises(KeyboardInterrupt):
        make(tasks, tmp_path / "stopped", progress=signal)
    resumed, made = make(tasks, tmp_path / "stopped")
    assert made == [6], "the fourth step was told of, and the fifth saved"
    whole, _ = make(tasks, tmp_path / "whole")
    for one, other in zip(jax.tree.leaves(resumed[:3]), jax.tree.leaves(whole[:3]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_training_whose_loss_is_not_finite_goes_on_too(tasks, tmp_path):
    settings = {"settings": {"label_smoothing": 0.0}}
    parts, primary, harmful = tasks
    broken = (parts, primary._replace(x=primary.x * np.float32(np.nan)), harmful)
    losses = [make(tasks, tmp_path, data=broken, **settings)[0].losses for _ in range(2)]
    assert np.isnan(losses[0]).all()
    np.testing.assert_array_equal(*losses)


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
        TrainingSettings(**settings)


def trained_by(tasks, value=None, *, weight=1.0, everywhere=False, **settings):
    """After some steps, with a penalty of this value if there is one."""
    parts, primary, harmful = tasks
    penalties = () if value is None else (Penalty(value, weight, everywhere),)
    asked = TrainingSettings(**{"steps": 2, "batch_rows": 8, "learning_rate": 0.01, "warmup": 0.0, **settings})
    return train_tail(parts, CUT, primary, harmful, penalties=penalties, settings=asked)


def distance(a, b):
    """Between the tails of two networks."""
    squares = jax.tree.map(lambda x, y: float(((x - y) ** 2).sum()), a.tail, b.tail)
    return sum(jax.tree.leaves(squares)) ** 0.5


def test_steps_are_counted_instead_of_epochs_and_observed_first_and_last(tasks):
    parts, primary, harmful = tasks
    settings = TrainingSettings(steps=7, epochs=50, batch_rows=8, learning_rate=1e-3)
    seen, made = [], []
    trained = train_tail(
        parts, CUT, primary, harmful, settings=settings, observe=lambda _: seen.append(1), progress=made.append
    )
    assert settings.total_steps(len(primary.labels), harmful.labels) == 7
    assert made == list(range(1, 8))
    assert len(trained.losses) == 7
    assert len(seen) == 2


def test_batches_of_the_harmful_task_have_a_size_of_their_own_and_come_in_pairs(tasks):
    shown = []

    def value(batch):
        shown.append((batch.primary.x.shape, batch.harmful.x.shape))
        jax.debug.callback(lambda y: shown.append(np.asarray(y).argmax(1)), batch.harmful.y)
        return batch.harmful.x.sum()

    trained_by(tasks, value, steps=1, batch_rows=5, harmful_rows=12, in_pairs=True)
    jax.effects_barrier()
    assert ((5, 12), (12, 12)) in shown
    labels = next(part for part in shown if not isinstance(part, tuple)).reshape(-1, 2)
    assert (labels[:, 0] == labels[:, 1]).mean() > 0.7, "but for those that are left alone at the end"


def test_a_penalty_that_is_everywhere_is_the_mean_over_the_outputs_of_all_trained_parts(tasks):
    """One that pushes every output alike moves earlier parts by themselves, not only through the features."""
    parts, _, harmful = tasks
    names = list(functional.merge(parts).pooled_tail(harmful.x[:2], CUT))
    shapes = []

    def value(batch):
        shapes.append(batch.harmful.x.shape)
        return batch.harmful.x.mean()

    trained_by(tasks, value, everywhere=True, steps=1)
    assert len(shapes) % len(names) == 0
    assert len(shapes) >= len(names)
    alone = []
    trained_by(tasks, lambda batch: alone.append(1) or batch.harmful.x.mean(), steps=1)
    assert len(shapes) == len(names) * len(alone)


def test_the_published_outputs_hold_a_network_that_is_pushed_away(tasks):
    def push(batch):
        return batch.primary.x.mean()

    parts, primary, _ = tasks
    before = functional.merge(parts)
    wanted = before.head(before.tail(primary.x, CUT))

    def moved(**settings):
        after = functional.merge(trained_by(tasks, push, steps=20, longest_gradient=1.0, **settings).parts)
        return float(abs(after.head(after.tail(primary.x, CUT)) - wanted).mean())

    assert moved(distillation=30.0) < 0.7 * moved()


def test_a_long_gradient_is_shortened(tasks):
    def push(batch):
        return 1e4 * batch.harmful.x.mean()

    parts, *_ = tasks
    short = distance(trained_by(tasks, push, steps=1, longest_gradient=0.5).parts, parts)
    assert short <= 0.01 * (1 + 0.9) * 0.5 * 1.001, "a rate of 0.01, Nesterov's first step"
    assert distance(trained_by(tasks, push, steps=1).parts, parts) > 10 * short


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"epochs": 0},
        {"distillation": -1.0},
        {"temperature": 0.0},
        {"longest_gradient": 0.0},
        {"primary_accuracy": 1.1},
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(InputError, match=f"^{next(iter(settings))}: "):
        TrainingSettings(**settings)
