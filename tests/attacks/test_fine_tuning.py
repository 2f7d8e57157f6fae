"""Fine-tuning: the steps are optax's, the images are the attacker's, and what comes out is what the network then does."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from networks.small_networks import NETWORK, SMALL, filled

from cimm_jax import InputError
from cimm_jax.attacks import fine_tuning, ridge_probe, victim
from cimm_jax.attacks.fine_tuning import FineTuning, Victim, fine_tune
from cimm_jax.attacks.optimizers import Schedule
from cimm_jax.class_targets import one_hot
from cimm_jax.networks import functional, lora
from cimm_jax.networks.head import head_of

pytestmark = pytest.mark.usefixtures("standard_promotion")

CUT = "layer3.0"
CLASSES = 3
COUNT, POOL, HELDOUT = 20, 30, 15
KEY = jax.random.key(3)


def victim_of(network, cut, mapping=None):
    """Images of three classes, half a standard deviation of noise around each; the labels are not the published head's."""
    rng = np.random.default_rng(0)
    size = network.config.preprocess.size
    of_class = rng.normal(size=(CLASSES, size, size, 3))
    parts = functional.split(network, cut)
    look = jax.jit(functional.trunk, static_argnames="cut")

    def some(rows):
        labels = np.arange(rows, dtype=np.int32) % CLASSES
        images = np.float32(of_class[labels] + 0.5 * rng.normal(size=(rows, size, size, 3)))
        return np.asarray(look(parts, images, cut or network.cuts[0])), labels

    head = head_of(network)
    if mapping is not None:
        head = head._replace(kernel=np.linalg.solve(mapping, head.kernel).astype(np.float32))
    order = np.random.default_rng(1).permutation(POOL).astype(np.int32)
    return Victim(parts, mapping, head, *some(POOL), order, COUNT, *some(HELDOUT), *some(HELDOUT))


@pytest.fixture(scope="module")
def downloaded():
    return victim_of(filled(NETWORK), CUT)


@pytest.fixture(scope="module")
def mapped():
    mapping = np.float32(np.eye(12) + 0.1 * np.random.default_rng(2).normal(size=(12, 12)))
    return victim_of(filled(NETWORK), CUT, mapping)


def tail_features(target, weights, stats, x):
    flat = dict(nnx.to_flat_state(weights))
    mapping = flat.pop(("mapping", "kernel"), None)
    parts = target.parts._replace(tail=nnx.from_flat_state(list(flat.items())), batch_stats=stats)
    found = functional.tail(parts, x, CUT)
    return found if mapping is None else found @ mapping[...]


def by_hand(settings, target, rate, steps, records):
    """The same training as one loop in Python, by optax with its own schedules: losses, and accuracies at the records."""
    published = victim.Tunable(target, CUT, settings.statistics).published
    of_adapters, of_batches = jax.random.split(KEY)
    start = published if settings.rank is None else lora.adapters(published, settings.rank, of_adapters)
    kernel, bias = np.zeros((12, CLASSES), np.float32), np.zeros(CLASSES, np.float32)
    if settings.head == "kept":
        kernel, bias = target.head.kernel[:, :CLASSES], target.head.bias[:CLASSES]
    course = Schedule(settings.schedule).over(steps)
    factories = {"sgd": optax.sgd, "momentum": lambda r: optax.sgd(r, momentum=0.9), "adamw": optax.adamw}
    optimizer = factories[settings.optimizer](lambda number: rate * course(number))

    def whole(weights):
        return weights if settings.rank is None else lora.adapted(published, weights, victim.LORA_SCALE)

    def statistics(weights, x):
        if settings.statistics == "stored":
            return target.parts.batch_stats
        flat = [(path, leaf) for path, leaf in nnx.to_flat_state(whole(weights)) if path[0] != "mapping"]
        return functional.batch_statistics(target.parts._replace(tail=nnx.from_flat_state(flat)), x, CUT)

    def loss(trained, x, labels):
        weights, kernel, bias = trained
        features = tail_features(target, whole(weights), statistics(weights, x), x)
        return optax.losses.softmax_cross_entropy_with_integer_labels(features @ kernel + bias, labels).mean()

    @jax.jit
    def step(trained, state, number):
        drawn = jax.random.fold_in(of_batches, number)
        rows = target.order[jax.random.randint(drawn, (settings.batch_size,), 0, COUNT, jnp.int32)]
        value, gradient = jax.value_and_grad(loss)(trained, target.fit_x[rows], target.fit_labels[rows])
        updates, state = optimizer.update(gradient, state, trained)
        return optax.apply_updates(trained, updates), state, value

    @jax.jit
    def judged(trained):
        weights, kernel, bias = trained
        stats = statistics(weights, target.fit_x[target.order[np.arange(POOL) * COUNT // POOL]])
        scores = tail_features(target, whole(weights), stats, target.heldout_x) @ kernel + bias
        primary = tail_features(target, whole(weights), stats, target.primary_x) @ target.head.kernel + target.head.bias
        return (scores.argmax(1) == target.heldout_labels).mean(), (primary.argmax(1) == target.primary_labels).mean()

    trained = (start, jnp.asarray(kernel), jnp.asarray(bias))
    state, found = optimizer.init(trained), []
    for number in range(steps):
        trained, state, value = step(trained, state, number)
        found.append((float(value), *map(float, judged(trained))))
    at = [math.ceil(i * steps / records) - 1 for i in range(1, records + 1)]
    return np.asarray(found)[at].T


@pytest.mark.parametrize(
    ("rank", "optimizer", "head", "schedule", "statistics", "rate"),
    [
        (None, "momentum", "new", "cosine", "batch", 0.01),
        (2, "adamw", "kept", "warmup", "stored", 0.03),
        (2, "sgd", "new", "constant", "batch", 0.01),
    ],
)
def test_the_steps_are_those_of_optax(mapped, rank, optimizer, head, schedule, statistics, rate):
    settings = FineTuning("they", CUT, rank, optimizer, head, (rate,), 8, schedule, statistics)
    target = jax.tree.map(jnp.asarray, mapped)
    tuned = fine_tune(settings, classes=CLASSES)(KEY, mapped, rate, 10)
    loss, accuracy, primary = by_hand(settings, target, rate, 10, 4)
    np.testing.assert_allclose(tuned.loss, loss, rtol=5e-4)
    np.testing.assert_allclose(tuned.accuracy, accuracy, atol=1e-6)
    np.testing.assert_allclose(tuned.primary_accuracy, primary, atol=1e-6)
    assert not tuned.diverged.any()
    assert np.ptp(loss) > 0.01
    assert tuned.accuracy.dtype == tuned.loss.dtype == tuned.primary_accuracy.dtype == jnp.float32


SOLVED = FineTuning("they", CUT, None, "momentum", "solved", (0.01,), 8)


@pytest.fixture(scope="module")
def solved():
    return fine_tune(SOLVED, classes=CLASSES, records=2)


def test_rows_beyond_the_count_are_not_looked_at(downloaded, solved):
    beyond = downloaded.order[COUNT:]
    x, labels = downloaded.fit_x.copy(), downloaded.fit_labels.copy()
    x[beyond], labels[beyond] = np.nan, 2 - labels[beyond]
    before = solved(KEY, downloaded, 0.01, 6)
    after = solved(KEY, downloaded._replace(fit_x=x, fit_labels=labels), 0.01, 6)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    more = solved(KEY, downloaded._replace(count=COUNT + 1), 0.01, 6)
    assert not np.array_equal(before.loss, more.loss)


def test_rates_and_keys_batch(downloaded, solved):
    rates, keys = jnp.asarray([0.01, 0.1], jnp.float32), jax.random.split(jax.random.key(7), 2)
    together = jax.vmap(solved, (0, None, 0, None))(keys, downloaded, rates, 6)
    for i in range(2):
        alone = solved(keys[i], downloaded, rates[i], 6)
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-6), together, alone)
    assert together.loss[0, -1] != together.loss[1, -1]


def test_one_program_serves_every_count_and_number_of_steps(downloaded, monkeypatch):
    traced = []

    def counted():
        traced.append(1)
        return optax.sgd(1.0)

    monkeypatch.setitem(fine_tuning.OPTIMIZERS, "sgd", counted)
    settings = dataclasses.replace(SOLVED, head="new", optimizer="sgd", name="counted")
    for count, steps in ((5, 1), (30, 3)):
        fine_tune(settings, classes=CLASSES, records=2)(KEY, downloaded._replace(count=count), 0.01, steps)
    assert len(traced) == 1


def served(target, statistics):
    stats = target.parts.batch_stats
    if statistics == "batch":
        rows = target.order[np.arange(POOL) * COUNT // POOL]
        stats = functional.batch_statistics(target.parts, jnp.asarray(target.fit_x[rows]), CUT)
    return jax.jit(lambda x: functional.tail(target.parts._replace(batch_stats=stats), x, CUT))


def test_before_the_first_real_step_the_head_is_the_one_asked_for(downloaded, solved):
    features = served(downloaded, "batch")
    rows = downloaded.order[:COUNT]
    x, y = np.asarray(features(downloaded.fit_x[rows])), one_hot(downloaded.fit_labels[rows]).astype(np.float32)
    probe = ridge_probe(x - x.mean(0), y - y.mean(0))
    scores = (np.asarray(features(downloaded.heldout_x)) - x.mean(0)) @ probe + y.mean(0)
    found = solved(KEY, downloaded, 1e-12, 1)
    assert found.accuracy[-1] == pytest.approx(np.mean(scores.argmax(1) == downloaded.heldout_labels))
    assert found.accuracy[-1] > 0.5

    kept = dataclasses.replace(SOLVED, head="kept", statistics="stored")
    logits = jax.jit(functional.tail, static_argnames="cut")(downloaded.parts, downloaded.heldout_x, CUT)
    scores = logits @ downloaded.head.kernel + downloaded.head.bias
    expected = np.mean(scores.argmax(1) == downloaded.heldout_labels)
    found = fine_tune(kept, classes=CLASSES, records=1)(KEY, downloaded, 1e-12, 1)
    assert found.accuracy[-1] == pytest.approx(expected)


def test_without_a_change_primary_accuracy_is_the_published_networks(downloaded):
    network = filled(NETWORK)
    images = np.random.default_rng(5).normal(size=(20, 16, 16, 3)).astype(np.float32)
    labels = np.asarray(network(images).argmax(1), np.int32)
    labels[:5] = (labels[:5] + 1) % 3
    target = downloaded._replace(
        primary_x=np.asarray(network.trunk(images, CUT)), primary_labels=labels, heldout_x=downloaded.heldout_x[:4]
    )._replace(heldout_labels=downloaded.heldout_labels[:4])
    settings = FineTuning("they", CUT, head="new", statistics="stored", batch_size=4)
    found = fine_tune(settings, classes=CLASSES, records=1)(KEY, target, 1e-12, 1)
    assert found.primary_accuracy[-1] == pytest.approx(0.75)
    unknown = fine_tune(settings, classes=CLASSES, records=1)(KEY, target._replace(head=None), 1e-12, 1)
    assert np.isnan(unknown.primary_accuracy).all()


def test_judging_in_batches_is_judging_at_once(downloaded, monkeypatch):
    settings = dataclasses.replace(SOLVED, name="in one go", head="kept", statistics="stored")
    whole = fine_tune(settings, classes=CLASSES, records=1)(KEY, downloaded, 0.01, 3)
    for module in (fine_tuning, victim):
        monkeypatch.setattr(module, "BATCH_ROWS", 4)
    pieces = fine_tune(dataclasses.replace(settings, name="in pieces"), classes=CLASSES, records=1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, pieces(KEY, downloaded, 0.01, 3))


def test_divergence_is_told_and_is_no_number_nowhere(downloaded, solved):
    found = solved(KEY, downloaded, 1e30, 6)
    assert found.diverged.all()
    assert not found.accuracy.any()
    assert not found.primary_accuracy.any()
    assert np.isfinite(found.loss).all()


@pytest.mark.slow
def test_a_whole_transformer_learns_and_has_no_statistics_to_ask_about():
    target = victim_of(filled(dataclasses.replace(SMALL["vit_transformers"], depth=1)), None)
    settings = FineTuning("they", None, 2, "adamw", "new", (0.03,), 12, "cosine", "batch")
    found = fine_tune(settings, classes=CLASSES, records=2)(KEY, target, 0.03, 40)
    assert found.accuracy[-1] > 0.8
    stored = fine_tune(dataclasses.replace(settings, statistics="stored"), classes=CLASSES, records=2)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found, stored(KEY, target, 0.03, 40)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "lion"}, "optimizer: 'lion' is unknown; choose one of sgd, momentum, adamw"),
        ({"head": "old"}, "head: 'old' is unknown"),
        ({"schedule": "step"}, "schedule: 'step' is unknown"),
        ({"statistics": "none"}, "statistics: 'none' is unknown"),
        ({"cut": "features"}, "cut: no weights are behind 'features'"),
        ({"rank": 0}, "rank: needs at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: needs at least 1, got 0"),
        ({"rates": ()}, "rates: need positive finite numbers"),
        ({"rates": (0.1, 0.0)}, "rates: need positive finite numbers"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SOLVED, **changes)


def without_weights(target):
    network = filled(NETWORK)
    return target._replace(parts=functional.split(network, "pool"))


@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        ({}, lambda v: v._replace(parts=functional.split(filled(NETWORK))), "victim.parts: are split elsewhere"),
        ({"cut": "layer2.0"}, lambda v: v, "victim.parts: are split elsewhere than at 'layer2.0'"),
        ({"cut": "nowhere"}, lambda v: v, "cut: 'nowhere' is unknown"),
        ({"cut": "pool"}, without_weights, "cut: no weights are behind 'pool'"),
        ({"rank": 13}, lambda v: v, "rank: needs 1 to 12, the full rank of the widest layer, got 13"),
        ({"head": "kept"}, lambda v: v._replace(head=None), "victim.head: is None"),
        ({}, lambda v: v._replace(count=31), "victim.count: needs 1 to 30, the rows of fit_x, got 31"),
        ({}, lambda v: v._replace(count=0), "victim.count: needs 1 to 30"),
        ({}, lambda v: v._replace(order=v.order[:5]), "victim: fit_x has 30 rows, fit_labels 30 and order 5"),
        ({}, lambda v: v._replace(heldout_labels=v.heldout_labels[:5]), "victim.heldout_labels: need one for each"),
        ({}, lambda v: v._replace(primary_labels=None), "victim.primary_labels: need one for each"),
        ({}, lambda v: v._replace(mapping=np.eye(12, 5, dtype=np.float32)), "victim.head: needs a kernel of 5 rows"),
    ],
)
def test_victims_that_do_not_fit_are_refused(downloaded, settings, change, message):
    attack = fine_tune(dataclasses.replace(SOLVED, **settings), classes=CLASSES)
    with pytest.raises(InputError, match=message):
        attack(KEY, change(downloaded), 0.01, 2)


def test_numbers_out_of_range_are_refused(downloaded):
    with pytest.raises(InputError, match="steps: needs at least 1, got 0"):
        fine_tune(SOLVED, classes=CLASSES)(KEY, downloaded, 0.01, 0)
    with pytest.raises(InputError, match="classes: needs at least 2, got 1"):
        fine_tune(SOLVED, classes=1)
    with pytest.raises(InputError, match="records: needs at least 1, got 0"):
        fine_tune(SOLVED, classes=CLASSES, records=0)
    kept = dataclasses.replace(SOLVED, head="kept")
    with pytest.raises(InputError, match="classes: the published head has 3 outputs to keep, got 4"):
        fine_tune(kept, classes=4)(KEY, downloaded, 0.01, 2)
