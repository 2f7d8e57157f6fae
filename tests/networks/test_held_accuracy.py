import numpy as np
import pytest
from networks.small_networks import NETWORK, filled

from cimm_jax import InputError
from cimm_jax.networks import functional
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.held_accuracy import EVERY, FALL, RISE, hold_accuracy
from cimm_jax.networks.training import TrainingSettings, train_tail
from cimm_jax.numerics.penalty import Penalty

pytestmark = pytest.mark.usefixtures("standard_promotion")

CUT, ROWS = "layer3.0", 60


@pytest.fixture(scope="module")
def published():
    """A network, and images that it classifies as their labels say, but for a third."""
    parts = functional.split(filled(NETWORK), CUT)
    images = np.random.default_rng(0).normal(size=(ROWS, 16, 16, 3)).astype(np.float32)
    x = np.asarray(functional.trunk(parts, images, CUT))
    model = functional.merge(parts)
    labels = np.asarray(model.head(model.tail(x, CUT))).argmax(1)
    labels[::3] = (labels[::3] + 1) % 3
    return parts, Labelled(x, labels)


def test_rows_that_are_looked_at_are_not_trained_on(published):
    parts, primary = published
    held = hold_accuracy(0.1, parts, CUT, primary, seed=0)
    assert len(held.aside.labels) == 12
    shown = set(held.trained)
    assert len(shown) == 48
    for p, _ in TrainingSettings(batch_rows=8, primary_accuracy=0.1).batches(ROWS, np.zeros(16, int), 0):
        assert set(held.trained[p]) <= shown
    others = np.setdiff1d(np.arange(ROWS), held.trained)
    np.testing.assert_array_equal(primary.labels[others], held.aside.labels)
    expected = np.mean(others % 3 != 0)
    assert held.accuracy(parts) == pytest.approx(expected)


def test_weights_rise_while_the_accuracy_is_held_and_fall_while_it_is_not(published):
    parts, primary = published
    harmful = Labelled(primary.x[:16], np.arange(16) % 2)

    def weight(wanted, rate):
        settings = TrainingSettings(
            steps=2 * EVERY, batch_rows=8, warmup=0.0, learning_rate=rate, primary_accuracy=wanted
        )
        push = Penalty(lambda batch: 1e3 * (batch.primary.x**2).mean(), 1.0)
        return train_tail(parts, CUT, primary, harmful, penalties=[push], settings=settings).weights[0]

    assert weight(0.2, 1e-9) == pytest.approx(RISE**2)
    published_accuracy = hold_accuracy(0.2, parts, CUT, primary, seed=0).accuracy(parts)
    assert weight(published_accuracy, 0.05) == pytest.approx(FALL**2)


def test_more_than_the_published_network_has_is_refused(published):
    parts, primary = published
    with pytest.raises(InputError, match=r"^primary_accuracy: the published network gets 0\.\d+ on 12 rows"):
        hold_accuracy(0.99, parts, CUT, primary, seed=0)
    with pytest.raises(InputError, match=r"^primary_accuracy: .* there are only 5"):
        hold_accuracy(0.1, parts, CUT, Labelled(primary.x[:5], primary.labels[:5]), seed=0)
