"""What attackers got: the best setting, the best attacker, and what a number of trials can be expected to find."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from cimm_jax.attacks.ladder.rungs import HEADS
from cimm_jax.attacks.ladder.tried import Tried, best_of, expected_best, reached

KNN = Tried(
    rung=HEADS,
    attacker="neighbours",
    place="features",
    network="undefended",
    images=50,
    settings=(1.0, 5.0, 15.0),
    accuracy=(0.5, 0.7, math.nan),
    by_seed=(0.66, 0.74),
    steps=(1,),
    curve=(0.7,),
    primary=None,
    diverged=0.0,
    seconds=1.0,
)
PERCEPTRON = replace(KNN, attacker="perceptron", settings=(0.1,), accuracy=(0.65,), by_seed=(0.5, 0.8), primary=0.25)


def test_the_best_setting_is_one_that_was_tried():
    assert KNN.setting == 5.0
    assert replace(KNN, accuracy=(math.nan, 0.1, 0.2)).setting == 15.0
    assert math.isnan(PERCEPTRON.setting), "nothing to choose"


def test_the_best_attacker_is_so_on_average_not_with_one_lucky_seed():
    assert KNN.best == pytest.approx(0.7)
    assert best_of([PERCEPTRON, KNN]) is KNN
    assert best_of([KNN, replace(PERCEPTRON, by_seed=(0.6, 0.9))]).attacker == "perceptron"


def test_what_the_best_reached_carries_who_where_and_the_interval_of_the_judged_images():
    found = reached([PERCEPTRON, KNN], 400)
    assert found is not None
    assert (found.attacker, found.place, found.setting, found.seeds) == ("neighbours", "features", 5.0, (0.66, 0.74))
    # Wilson's interval of 280 of 400, written out.
    z, n, p = 1.959964, 400, 0.7
    middle, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)),
    )
    np.testing.assert_allclose(found.accuracy, (p, middle - half, middle + half), rtol=1e-6)
    assert reached([PERCEPTRON], 400).primary == 0.25
    assert reached([], 400) is None


def test_expected_best_is_the_mean_over_all_orders_of_the_trials():
    values = [0.5, 0.7, 0.65]
    orders = list(itertools.permutations(values))
    brute = [np.mean([max(order[:drawn]) for order in orders]) for drawn in (1, 2, 3)]
    np.testing.assert_allclose(expected_best([KNN, PERCEPTRON]), brute, rtol=1e-12)


def test_settings_that_were_not_tried_are_no_trials():
    assert len(expected_best([KNN, KNN, PERCEPTRON])) == 5
    assert np.isfinite(expected_best([KNN])).all()
