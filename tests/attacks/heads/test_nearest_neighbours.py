import numpy as np
import pytest
from attacks.attacked import make_target, run_one
from attacks.heads.on_digits import at_rates, digits_target, scaled_digits, squared
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from cimm_jax import InputError
from cimm_jax.attacks.heads import nearest_neighbours

K = (1, 4, 7)


@pytest.fixture(scope="module")
def found():
    return at_rates(nearest_neighbours(most=8), digits_target(), K)


@pytest.mark.parametrize("k", K)
def test_scores_are_the_means_of_scikit_learns_neighbours(found, k):
    x, y, heldout_x, heldout_y = scaled_digits()
    regressor = KNeighborsRegressor(k).fit(x, y)
    at = K.index(k)
    np.testing.assert_allclose(found.heldout_loss[at], squared(regressor.predict(heldout_x), heldout_y), rtol=1e-9)
    left_out = y[regressor.kneighbors(return_distance=False)].mean(1)
    np.testing.assert_allclose(found.loss[at], squared(left_out, y), rtol=1e-9)


@pytest.mark.parametrize("k", K)
def test_classes_are_scikit_learns_but_for_ties(found, k):
    x, y, heldout_x, heldout_y = scaled_digits()
    classifier = KNeighborsClassifier(k).fit(x, y.argmax(1))
    share = classifier.score(heldout_x, heldout_y.argmax(1))
    ties = np.mean(np.diff(np.sort(classifier.predict_proba(heldout_x), 1)[:, -2:]) == 0)
    assert found.accuracy[K.index(k), 0, 0] == pytest.approx(share, abs=ties + 1e-12)
    assert ties < 0.1
    assert share > 0.9


def line(y, heldout_x, heldout_y):
    x = np.arange(1.0, 1 + len(y))[:, None]
    return make_target(x, np.asarray(y, float), (np.asarray(heldout_x, float)[:, None], np.asarray(heldout_y, float)))


def test_the_closest_of_equally_many_decides():
    # From 1.4 the rows are met in their order; the first two classes have two votes each of four, and then of five too.
    classes = np.eye(3)[[0, 1, 1, 0, 2, 1]] * 2 - 1
    target = line(classes, [1.4, 1.4], np.eye(3)[[0, 0]] * 2 - 1)
    attack = nearest_neighbours(most=6)
    accuracy = at_rates(attack, target, (1, 2, 3, 4, 5, 6)).accuracy[:, 0, 0]
    np.testing.assert_array_equal(accuracy, [1, 1, 0, 1, 1, 0])


def test_two_classes_in_one_column_vote_by_their_signs():
    target = line([1, -1, -1, 1], [1.4, 3.6], [1, 1])
    accuracy = at_rates(nearest_neighbours(), target, (1, 2, 3, 4)).accuracy[:, 0, 0]
    np.testing.assert_array_equal(accuracy, [1, 1, 0, 1])


def test_k_is_rounded_and_kept_between_one_and_what_there_is():
    target = line([1, -1, -1, 1, 1], [1.2, 4.6], [1, -1])
    losses = at_rates(nearest_neighbours(most=3), target, (0.1, 1, 1.4, 2.6, 3, 99)).heldout_loss[:, 0, 0]
    np.testing.assert_array_equal(losses[:3], losses[0])
    np.testing.assert_array_equal(losses[3:], losses[3])
    assert losses[0] != losses[3]
    every = run_one(nearest_neighbours(most=99), target, rate=50)
    y = np.asarray([1, -1, -1, 1, 1])
    np.testing.assert_allclose(every.heldout_loss, squared(y.mean(), np.asarray([1, -1])))
    np.testing.assert_allclose(every.loss, squared((y.sum() - y) / 4, y))


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match=r"^most: .*0"):
        nearest_neighbours(most=0)
