import numpy as np
import pytest
from attacks.attacked import make_target
from attacks.heads.on_digits import at_rates, digits, digits_target, scaled_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from cimm_jax.attacks.heads import softmax_regression

RIDGES = (1e-3, 1e-2, 1.0)
RECORDS = (1, 10, 300)


@pytest.fixture(scope="module")
def found():
    return at_rates(softmax_regression(steps=300, record_at=RECORDS), digits_target(), RIDGES)


def model_of(ridge, x, labels):
    return LogisticRegression(C=1 / (len(x) * ridge), max_iter=5000, tol=1e-8).fit(x, labels)


@pytest.mark.parametrize("ridge", RIDGES)
def test_it_ends_where_scikit_learn_does(found, ridge):
    x, y, heldout_x, heldout_y = scaled_digits()
    labels, heldout_labels = y.argmax(1), heldout_y.argmax(1)
    model = model_of(ridge, x, labels)
    at = RIDGES.index(ridge)
    expected = log_loss(labels, model.predict_proba(x)), log_loss(heldout_labels, model.predict_proba(heldout_x))
    np.testing.assert_allclose([found.loss[at, 0, -1], found.heldout_loss[at, 0, -1]], expected, rtol=5e-3)
    assert found.accuracy[at, 0, -1] == pytest.approx(model.score(heldout_x, heldout_labels), abs=0.003)


def test_it_has_steps_on_the_way(found):
    assert (np.diff(found.loss[:2], axis=-1) < 0).all()
    assert not found.diverged.any()


def test_a_single_column_is_logistic_regression():
    x, labels, heldout_x, heldout_labels = digits()
    y, heldout_y = (np.where(part > 4, 1.0, -1.0) for part in (labels, heldout_labels))
    target = make_target(x, y, (heldout_x, heldout_y))
    trace = at_rates(softmax_regression(steps=300, record_at=(300,)), target, (1e-2,))
    x, _, heldout_x, _ = scaled_digits()
    model = model_of(1e-2, x, y)
    np.testing.assert_allclose(trace.heldout_loss, log_loss(heldout_y, model.predict_proba(heldout_x)), rtol=1e-4)
    assert trace.accuracy[0, 0, 0] == pytest.approx(model.score(heldout_x, heldout_y), abs=0.003)


def test_weak_directions_are_learned_too(rng):
    # Two features that differ by a thousandth of what they share: only the difference tells the classes apart.
    shared, difference = rng.standard_normal((2, 400))
    x = np.stack([shared + 1e-3 * difference, shared], 1)
    y = np.sign(difference)
    target = make_target(x[:300], y[:300], (x[300:], y[300:]))
    assert at_rates(softmax_regression(steps=100, record_at=(100,)), target, (1e-9,)).accuracy.min() > 0.95
