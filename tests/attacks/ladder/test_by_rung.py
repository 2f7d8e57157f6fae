"""What a ladder says of a defence: shares of the transfer advantage, words at their edges, steps, images, the primary task."""

import math
from dataclasses import replace

import numpy as np
import pytest

from cimm_jax.attacks.ladder.by_rung import (
    FAILS,
    HOLDS,
    NOTHING,
    RANDOM_WEIGHTS,
    WEAKENS,
    findings,
    least_difference,
    transfer_advantage_removed,
)
from cimm_jax.attacks.ladder.rungs import ANY, FINE_TUNING, HEADS, LAYERS, PROBES
from cimm_jax.attacks.ladder.tried import Tried
from cimm_jax.attacks.outcome import HeldOut, wilson
from cimm_jax.attacks.protocol import UNDEFENDED

MANY = 10**6
"""Judged images, so many that intervals are narrow."""


def tried(network: str, accuracy: float, **given) -> Tried:
    """Gradients on the features, one setting and one seed, judged once."""
    about = {"rung": PROBES, "attacker": "adam", "place": "features", "images": 100, "primary": None}
    return Tried(
        **{**about, **given, "network": network},
        settings=(1.0,),
        accuracy=(accuracy,),
        by_seed=(accuracy,),
        steps=(10,),
        curve=(accuracy,),
        diverged=0.0,
        seconds=1.0,
    )


def with_course(network: str, steps, curve, **given) -> Tried:
    return replace(tried(network, max(curve), **given), steps=steps, curve=curve)


def climbed(undefended: float, defended: float, floor: float | None = None, **given) -> list[Tried]:
    """One attacker against each network."""
    found = [tried(UNDEFENDED, undefended, **given), tried("mine", defended, **given)]
    return found if floor is None else [*found, tried(RANDOM_WEIGHTS, floor, **given)]


def rungs_of(of, *, judged: int = MANY, guessing: float = 0.1, primary: float | None = None):
    return findings(of, "mine", judged=HeldOut(judged, guessing), primary=primary)


def finding(of, **given):
    return rungs_of(of, **given)[0].budgets[0]


def removed(undefended, defended, floor, judged=MANY):
    return transfer_advantage_removed(*(wilson(share, judged) for share in (undefended, defended, floor)), judged)


@pytest.mark.parametrize(
    ("undefended", "defended", "floor", "share"),
    [
        (0.9, 0.5, 0.3, 2 / 3),
        (0.9, 0.9, 0.3, 0.0),
        (0.9, 0.3, 0.3, 1.0),
        (0.9, 0.2, 0.3, 7 / 6),
        (0.8, 0.85, 0.3, -0.1),
    ],
)
def test_the_share_removed_is_what_one_computes_by_hand(undefended, defended, floor, share):
    found = removed(undefended, defended, floor)
    assert found.estimate == pytest.approx(share, abs=1e-12)
    assert found.low < share < found.high
    assert found.high - found.low < 0.02


def test_its_interval_shrinks_as_images_judge():
    few, more = (removed(0.9, 0.5, 0.3, judged) for judged in (400, 1600))
    assert (few.high - few.low) / (more.high - more.low) == pytest.approx(2, rel=0.1)


def test_its_interval_covers_the_truth_as_often_as_it_says(rng):
    truth, judged, shares = (0.85 - 0.6) / (0.85 - 0.3), 300, np.array([0.85, 0.6, 0.3])
    seen = rng.binomial(judged, shares, (300, 3)) / judged
    found = [removed(*drawn, judged) for drawn in seen]
    covered = np.mean([of.low <= truth <= of.high for of in found])
    assert 0.92 < covered < 0.98


def test_nothing_can_be_removed_where_weights_are_worth_nothing():
    assert removed(0.3, 0.2, 0.3) is None
    assert removed(0.2, 0.2, 0.3) is None
    assert removed(0.34, 0.2, 0.3, judged=100) is None, "so few images show no advantage"
    assert removed(0.34, 0.2, 0.3) is not None


def test_the_least_difference_is_that_of_two_draws():
    assert least_difference(0.5, 0.5, 1000) == pytest.approx(1.96 * math.sqrt(0.25 / 1000 + 0.25 / 1000))
    assert least_difference(0.8, 0.6, 400) == pytest.approx(1.96 * math.sqrt(2 * 0.7 * 0.3 / 400))
    assert least_difference(1.0, 1.0, 400) == 0.0


@pytest.mark.parametrize(
    ("undefended", "defended", "word"),
    [
        (0.9, 0.598, HOLDS),
        (0.9, 0.602, WEAKENS),
        (0.9, 0.89, WEAKENS),
        (0.9, 0.8995, FAILS),
        (0.9, 0.95, FAILS),
        (0.3, 0.1, NOTHING),
    ],
)
def test_words_at_their_edges(undefended, defended, word):
    """Of 0.9 to 0.3 half is gone at 0.6."""
    found = finding(climbed(undefended, defended, 0.3))
    assert found.word == word
    assert (found.removed is None) == (word == NOTHING)


def test_half_that_is_not_sure_does_not_hold():
    assert finding(climbed(0.9, 0.57, 0.3), judged=200).word == WEAKENS
    assert finding(climbed(0.9, 0.57, 0.3), judged=20_000).word == HOLDS


def test_no_stop_where_so_many_images_cannot_tell():
    """At 200 images and about 0.88, the least difference is 0.064."""
    assert finding(climbed(0.9, 0.85, 0.3), judged=200).word == FAILS
    assert finding(climbed(0.9, 0.82, 0.3), judged=200).word == WEAKENS


def test_without_a_network_guessing_is_the_floor():
    found = finding(climbed(0.9, 0.5), guessing=0.1)
    assert found.floor is None
    assert found.removed.estimate == pytest.approx(0.5)
    assert finding(climbed(0.9, 0.5), guessing=0.3).removed.estimate == pytest.approx(2 / 3)


def test_the_worst_budget_decides_a_rung_and_the_weakest_of_those_is_told():
    of = [
        *climbed(0.9, 0.3, 0.3, images=10),
        *climbed(0.9, 0.7, 0.3, images=20),
        *climbed(0.9, 0.8, 0.3, images=40),
        *climbed(0.3, 0.3, 0.3, images=80),
    ]
    rung, _ = rungs_of(of)
    assert [budget.word for budget in rung.budgets] == [HOLDS, WEAKENS, WEAKENS, NOTHING]
    assert (rung.word, rung.weakest.images) == (WEAKENS, 40)
    failed, _ = rungs_of([*of, *climbed(0.9, 0.9, 0.3, images=60)])
    assert (failed.word, failed.weakest.images) == (FAILS, 60)
    weakened_less_than_failed = [*climbed(0.9, 0.86, 0.1, images=10), *climbed(0.36, 0.345, 0.3, images=20)]
    failed, _ = rungs_of(weakened_less_than_failed, judged=2000)
    assert [budget.word for budget in failed.budgets] == [WEAKENS, FAILS]
    assert failed.budgets[0].removed.estimate < failed.budgets[1].removed.estimate
    assert failed.weakest.images == 20, "the word comes before the share"
    idle, _ = rungs_of(climbed(0.3, 0.3, 0.3))
    assert (idle.word, idle.weakest.images) == (NOTHING, 100)
    held, _ = rungs_of([*climbed(0.9, 0.3, 0.3, images=10), *climbed(0.3, 0.3, 0.3, images=80)])
    assert (held.word, held.weakest.images) == (HOLDS, 10)


def test_rungs_without_attackers_are_left_out_and_the_best_of_all_comes_last():
    of = [*climbed(0.6, 0.2, 0.1), *climbed(0.8, 0.7, 0.3, rung=HEADS, attacker="neighbours")]
    found = rungs_of(of)
    assert [rung.rung for rung in found] == [PROBES, HEADS, ANY.number]
    best = found[-1].budgets[0]
    assert [(one.attacker, one.accuracy.estimate) for one in (best.undefended, best.defended, best.floor)] == [
        ("neighbours", 0.8),
        ("neighbours", 0.7),
        ("neighbours", 0.3),
    ]
    assert len(best.trials) == len(best.undefended_trials) == 2
    assert best.trials[-1] == pytest.approx(0.7)


def test_another_defence_is_not_looked_at():
    of = [*climbed(0.9, 0.5, 0.3), tried("other", 0.99)]
    assert finding(of).defended.accuracy.estimate == 0.5


def test_steps_are_those_of_the_quickest_to_shares_of_the_undefended_gain():
    """From guessing at 0.1 to 0.9, half is 0.5, four fifths 0.74, nineteen twentieths 0.86."""
    of = [
        with_course(UNDEFENDED, (1, 10, 100), (0.5, 0.8, 0.9)),
        with_course("mine", (1, 10, 100), (0.2, 0.75, 0.6)),
        with_course("mine", (2, 20), (0.4, 0.86), attacker="momentum"),
    ]
    found = finding(of)
    assert found.undefended_steps == (1, 10, 100)
    assert found.steps == (10, 10, 20)
    never = finding([of[0], with_course("mine", (1, 10), (0.2, 0.6))])
    assert never.steps == (10, math.inf, math.inf)


def test_nobody_gets_half_of_nothing():
    found = finding([with_course(UNDEFENDED, (1,), (0.1,)), with_course("mine", (1,), (0.1,))])
    assert found.steps == found.undefended_steps == (math.inf,) * 3


def test_images_are_the_least_that_give_shares_of_what_all_of_them_give_undefended():
    """All images give 0.9 undefended: half is 0.5, four fifths 0.74, nineteen twentieths 0.86."""
    budgets = {10: (0.55, 0.2), 20: (0.8, 0.5), 40: (0.9, 0.8)}
    of = [one for images, pair in budgets.items() for one in climbed(*pair, images=images)]
    rung, _ = rungs_of(of)
    assert rung.undefended_images == (10, 20, 40)
    assert rung.images == (20, 40, math.inf)


def test_the_primary_task_that_the_best_attacker_destroys_and_the_best_of_those_who_keep_it():
    of = [
        *climbed(0.9, 0.2, 0.1, rung=FINE_TUNING, attacker="probe"),
        tried("mine", 0.85, rung=FINE_TUNING, attacker="all weights", primary=0.3),
        tried("mine", 0.6, rung=FINE_TUNING, attacker="adapters", primary=0.78),
        tried("mine", 0.7, rung=FINE_TUNING, attacker="last block", primary=0.77),
    ]
    found = finding(of, primary=0.8)
    assert found.destroyed == pytest.approx(0.5)
    assert (found.keeping.attacker, found.keeping.accuracy.estimate) == ("adapters", 0.6), "0.77 is three points less"
    assert finding(of[:3], primary=0.8).keeping.attacker == "probe", "features as they are keep it"


def test_without_a_head_nothing_is_destroyed():
    found = finding(climbed(0.9, 0.5, 0.1, rung=LAYERS), primary=0.8)
    assert found.destroyed is None
    assert (found.keeping.attacker, found.keeping.accuracy) == (found.defended.attacker, found.defended.accuracy)
    alone = [tried(UNDEFENDED, 0.9), tried("mine", 0.85, primary=0.3)]
    assert finding(alone, primary=None).destroyed is None
    assert finding(alone, primary=0.8).keeping is None
