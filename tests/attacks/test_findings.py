"""What outcomes made by hand say: who broke what, how much it slows, and what other tasks pay."""

import numpy as np
import pytest

from cimm_jax.attacks import UNDEFENDED, Deviation, Outcome, Slowed, claims, prices
from cimm_jax.attacks.findings import best_accuracy, followers, heldout_left, left
from cimm_jax.numerics.interval import Interval

INF, NAN = float("inf"), float("nan")
RECORDS = (1, 1000)


def outcome(
    attacker, left, steps, *, heldout=0.5, accuracy=NAN, breaks=False, breaks_heldout=False, accuracy_steps=INF
):
    return Outcome(
        attacker=attacker,
        adaptive=attacker == "newton",
        trials=1,
        rate=1.0,
        rate_at_edge=False,
        diverged=0.0,
        left=Interval(left, left, left),
        heldout_left=Interval(heldout, heldout, heldout),
        accuracy=Interval(accuracy, accuracy, accuracy),
        accuracy_wilson=Interval(accuracy, accuracy - 0.1, accuracy + 0.1),
        norm_ratio=1.0,
        curve=np.array([1.0, left]),
        heldout_curve=np.array([1.0, heldout]),
        steps=(steps, INF, INF),
        heldout_steps=(INF, INF, INF),
        undefended_steps=(1.0, INF, INF),
        undefended_heldout_steps=(INF, INF, INF),
        deviation=Deviation(0.0, 0.0, 0.0, 0.0),
        gap=0.0,
        breaks=breaks,
        breaks_heldout=breaks_heldout,
        keeps_accuracy=np.isfinite(accuracy_steps),
        accuracy_steps=accuracy_steps,
        undefended_accuracy_steps=1.0,
    )


def by_attacker(*outcomes):
    return {outcome.attacker: outcome for outcome in outcomes}


NEWTON = outcome("newton", 0.0, 1.0, breaks=True, breaks_heldout=True, accuracy=0.9)


@pytest.fixture
def harmful():
    return {
        UNDEFENDED: by_attacker(
            NEWTON,
            outcome("line_search", 0.1, 20.0, breaks=True, heldout=0.3, accuracy=0.95),
            outcome("adam", 0.05, 10.0, breaks=True, heldout=0.2, accuracy=0.9),
        ),
        "protected": by_attacker(
            NEWTON,
            outcome("line_search", 0.9, INF, heldout=0.95, accuracy=0.6),
            outcome("adam", 0.8, INF, heldout=0.97, accuracy=0.7),
        ),
        "broken": by_attacker(
            outcome("line_search", 0.3, 80.0, breaks=True),
            outcome("adam", INF, INF, heldout=INF),
            NEWTON,
        ),
    }


def test_claims_compare_the_best_follower_of_gradients_with_the_best_undefended_one(harmful):
    protected, broken = claims(harmful, RECORDS)
    assert (protected.extractor, broken.extractor) == ("protected", "broken")
    assert (protected.attacker, protected.left) == ("adam", 0.8)
    assert (protected.undefended_attacker, protected.undefended_left) == ("adam", 0.05)
    assert (protected.heldout_left, protected.undefended_heldout_left) == (0.95, 0.2)
    assert protected.slowed == (100, True), "1,000 steps were not enough, and the fastest needed 10 undefended"
    assert broken.slowed == (8, False)
    assert broken.attacker == "line_search", "a diverged attacker is never the best"


def test_accuracy_is_the_best_that_gradients_get_and_none_where_there_are_no_classes(harmful):
    protected, broken = claims(harmful, RECORDS)
    assert protected.accuracy == pytest.approx((0.7, 0.6, 0.8))
    assert protected.undefended_accuracy == pytest.approx((0.95, 0.85, 1.05))
    assert broken.accuracy is None
    assert best_accuracy(harmful["protected"]) == 0.9, "of any attacker, the adaptive ones among them"
    assert best_accuracy(by_attacker(outcome("adam", 0.1, 1.0), NEWTON)) is None


def test_breaches_are_listed_fastest_first_and_say_who_goes_beyond_gradients(harmful):
    protected, broken = claims(harmful, RECORDS)
    assert [breach.attacker for breach in protected.broken_by] == ["newton"]
    assert [(b.attacker, b.adaptive, b.steps, b.left, b.heldout) for b in broken.broken_by] == [
        ("newton", True, 1, 0, True),
        ("line_search", False, 80, 0.3, False),
    ]
    assert protected.followers == ()
    assert [breach.attacker for breach in broken.followers] == ["line_search"]


def test_whoever_keeps_the_accuracy_breaks_it_whatever_loss_they_leave(harmful):
    """The loss on the rows fitted says that nobody gets anywhere, and every held-out row is classified as before."""
    for extractor, steps in ((UNDEFENDED, 2.0), ("protected", 5.0)):
        harmful[extractor]["adam"] = harmful[extractor]["adam"]._replace(
            accuracy=Interval(1.0, 1.0, 1.0),
            accuracy_wilson=Interval(1.0, 0.82, 1.0),
            keeps_accuracy=True,
            accuracy_steps=steps,
        )
    protected = claims(harmful, RECORDS)[0]
    assert [(b.attacker, b.steps, b.by_loss, b.by_accuracy, b.accuracy) for b in protected.followers] == [
        ("adam", 5.0, False, True, 1.0)
    ]
    assert protected.by_loss == (100, True)
    assert protected.by_accuracy == (2.5, False)
    assert protected.slowed == (2.5, False), "the weaker one decides"
    assert (protected.accuracy.low, protected.undefended_accuracy.low) == (0.82, 0.82)


def test_a_lower_bound_is_weaker_than_nothing_that_was_reached(harmful):
    protected = claims(harmful, RECORDS)[0]
    assert protected._replace(by_accuracy=Slowed(300.0, False)).slowed == (300, False)
    assert protected._replace(by_accuracy=Slowed(20.0, True)).slowed == (20, True)
    assert protected._replace(by_loss=None, by_accuracy=None).slowed is None


def test_of_equally_fast_breaches_the_one_that_leaves_least_comes_first(harmful):
    harmful["broken"] = by_attacker(
        outcome("sgd", 0.3, 8.0, breaks=True),
        outcome("adam", 0.2, 8.0, breaks=True),
        outcome("gd", 0.1, 9.0, breaks=True),
    )
    (_, broken) = claims(harmful, RECORDS)
    assert [breach.attacker for breach in broken.broken_by] == ["adam", "sgd", "gd"]


def test_an_extractor_that_gives_nothing_away_undefended_has_no_slow_down(harmful):
    harmful[UNDEFENDED] = {name: o._replace(steps=(INF, INF, INF)) for name, o in harmful[UNDEFENDED].items()}
    protected, broken = claims(harmful, RECORDS)
    assert protected.slowed is broken.slowed is None


def test_only_adaptive_attackers_are_compared_among_themselves(harmful):
    alone = {name: by_attacker(outcomes["newton"]) for name, outcomes in harmful.items()}
    protected = claims(alone, RECORDS)[0]
    assert (protected.attacker, protected.undefended_attacker) == ("newton", "newton")
    assert protected.slowed == (1, False)
    assert protected.followers == ()


def test_who_follows_gradients(harmful):
    assert list(followers(harmful["broken"])) == ["line_search", "adam"]
    assert list(followers(by_attacker(NEWTON))) == ["newton"], "all, if there are none"


def test_a_diverged_attacker_learned_nothing_and_rounding_leaves_no_less_than_nothing():
    assert left(outcome("adam", INF, INF)) == left(outcome("adam", NAN, INF)) == 1
    assert left(outcome("adam", -1e-17, 3.0)) == 0
    assert heldout_left(outcome("adam", 0.1, 3.0, heldout=INF)) == 1
    assert heldout_left(outcome("adam", 0.1, 3.0, heldout=1.7)) == 1.7, "worse than knowing nothing is said"


def test_prices_are_of_the_task_itself_against_undefended(harmful):
    def primary(adam_steps, **adam):
        return by_attacker(outcome("line_search", 0.2, 30.0), outcome("adam", 0.1, adam_steps, **adam), NEWTON)

    tasks = {
        "harmful": harmful,
        "primary": {
            UNDEFENDED: by_attacker(
                outcome("line_search", 0.02, 12.0, heldout=0.1, accuracy=0.9),
                outcome("adam", 0.01, 6.0, heldout=0.2, accuracy=0.8),
                NEWTON._replace(accuracy=Interval(1.0, 1.0, 1.0)),
            ),
            "protected": primary(15.0),
            "broken": primary(INF),
        },
        "benign": {
            UNDEFENDED: by_attacker(outcome("adam", 0.1, INF)),
            "protected": by_attacker(outcome("adam", 0.5, 4.0)),
        },
    }
    found = prices(tasks)
    assert [(price.task, price.extractor) for price in found] == [
        ("primary", UNDEFENDED),
        ("primary", "protected"),
        ("primary", "broken"),
        ("benign", UNDEFENDED),
        ("benign", "protected"),
    ]
    undefended, protected, broken, _, benign = found
    assert (undefended.slow_down, undefended.accuracy) == (1, 0.9), "of those who follow gradients"
    assert (undefended.heldout, undefended.line_search, undefended.best) == (0.1, 0.02, 0.01)
    assert protected.slow_down == 2.5
    assert protected.accuracy is None, "no classes"
    assert broken.slow_down == 5
    assert benign.slow_down is None, "nobody got there undefended"
    assert benign.line_search is None, "they were not asked for"
    assert benign.best == 0.5
