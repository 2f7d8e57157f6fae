"""Outcomes of a sweep that is written down here, so that every answer can be counted by hand."""

import numpy as np
import pytest

from cimm_jax.attacks import BROKEN_AT, THRESHOLDS, HeldOut, Operator, Swept, Trace, outcomes, slow_down
from cimm_jax.attacks.outcome import wilson

RECORDS = (1, 2, 4, 8)
INF = float("inf")


def swept(name, left, *, heldout_left=None, accuracy=None, diverged=None, rates=(1.0,), has_rate=False, adaptive=False):
    """Values of shape (extractors, rates, records), or (extractors, rates, seeds, records)."""
    left, heldout_left, accuracy = (
        np.asarray(left if values is None else values, float) for values in (left, heldout_left, accuracy)
    )
    left, heldout_left, accuracy = (v[:, :, None] if v.ndim == 3 else v for v in (left, heldout_left, accuracy))
    diverged = np.zeros_like(left, bool) if diverged is None else np.asarray(diverged)[:, :, None]
    extractors, many = left.shape[:2]
    ratios = np.broadcast_to(np.arange(extractors * many).reshape(extractors, many, 1, 1), left.shape).astype(float)
    trace = Trace(left, heldout_left, accuracy, ratios, diverged)
    operator = Operator(name, lambda *_: None, rates, has_rate, adaptive=adaptive)
    return Swept(operator, trace, left, heldout_left, accuracy)


# The best of the undefended attackers leaves 0.2: the goal is 0.8, and its shares leave 0.6, 0.36 and 0.24.
SLOW = swept(
    "slow",
    [
        [[0.9, 0.6, 0.4, 0.3], [0.8, 0.7, 0.7, 0.7], [0.95, INF, INF, INF]],
        [[1.0, 0.9, 0.8, 0.7], [0.9, 0.8, 0.6, 0.6], [0.99, 0.98, INF, INF]],
    ],
    heldout_left=[
        [[1.0, 0.8, 0.5, 0.5], [1.0, 1.0, 0.9, 0.9], [1.0, INF, INF, INF]],
        [[1.0, 1.0, 1.0, 0.9], [1.2, 0.9, 0.7, 0.8], [1.0, 1.1, INF, INF]],
    ],
    accuracy=[
        [[0.5, 0.5, 0.7, 0.8], [0.5, 0.5, 0.5, 0.5], [0.5, 0, 0, 0]],
        [[0.5, 0.5, 0.5, 0.6], [0.4, 0.5, 0.6, 0.5], [0.5, 0.4, 0, 0]],
    ],
    diverged=[
        [[False] * 4, [False] * 4, [False, True, True, True]],
        [[False] * 4, [False] * 4, [False, False, True, True]],
    ],
    rates=(0.1, 1.0, 10.0),
    has_rate=True,
)
FAST = swept(
    "fast",
    [[[0.2, 0.2, 0.2, 0.2]], [[0.9, 0.65, 0.24, 0.24]]],
    heldout_left=[[[0.4, 0.4, 0.4, 0.4]], [[0.9, 0.9, 0.9, 0.75]]],
    accuracy=[[[0.8, 0.8, 0.8, 0.8]], [[0.4, 0.8, 0.8, 1.0]]],
    adaptive=True,
)
FOUND = outcomes({"slow": SLOW, "fast": FAST}, ["undefended", "immunized"], RECORDS)
UNDEFENDED, IMMUNIZED = FOUND["undefended"], FOUND["immunized"]


def test_everyone_is_there():
    assert THRESHOLDS == (0.5, 0.8, 0.95)
    assert BROKEN_AT == 0.5
    assert list(FOUND) == ["undefended", "immunized"]
    for named in FOUND.values():
        assert [(name, outcome.attacker, outcome.adaptive) for name, outcome in named.items()] == [
            ("slow", "slow", False),
            ("fast", "fast", True),
        ]


def test_the_best_rate_at_the_end_and_at_each_record():
    assert (UNDEFENDED["slow"].rate, IMMUNIZED["slow"].rate) == (0.1, 1.0)
    assert (UNDEFENDED["slow"].rate_at_edge, IMMUNIZED["slow"].rate_at_edge) == (True, False)
    assert np.isnan(UNDEFENDED["fast"].rate)
    assert not UNDEFENDED["fast"].rate_at_edge
    assert (UNDEFENDED["slow"].trials, UNDEFENDED["fast"].trials) == (3, 1)
    np.testing.assert_allclose(UNDEFENDED["slow"].curve, [0.8, 0.6, 0.4, 0.3])
    np.testing.assert_allclose(IMMUNIZED["slow"].curve, [0.9, 0.8, 0.6, 0.6])
    np.testing.assert_allclose(IMMUNIZED["slow"].heldout_curve, [1.0, 0.9, 0.7, 0.8])
    np.testing.assert_allclose([IMMUNIZED["slow"].left, UNDEFENDED["slow"].left], [[0.6] * 3, [0.3] * 3])
    np.testing.assert_allclose(IMMUNIZED["slow"].heldout_left, [0.8] * 3)
    np.testing.assert_allclose(IMMUNIZED["slow"].accuracy, [0.6] * 3)
    # The ratios are 0, 1, 2 for the undefended and 3, 4, 5 for the immunized.
    assert (UNDEFENDED["slow"].norm_ratio, IMMUNIZED["slow"].norm_ratio) == (0, 4)
    np.testing.assert_allclose([UNDEFENDED["slow"].diverged, UNDEFENDED["fast"].diverged], [1 / 3, 0])


def test_an_edge_is_either_end_and_needs_two_rates():
    ends = [[[0.5] * 4, [0.4] * 4, [0.3] * 4]] * 2
    rates = {"rates": (1.0, 2.0, 3.0), "has_rate": True}
    assert outcomes({"it": swept("it", ends, **rates)}, ["a", "b"], RECORDS)["b"]["it"].rate_at_edge
    one = swept("it", [[[0.5] * 4]] * 2, has_rate=True)
    assert not outcomes({"it": one}, ["a", "b"], RECORDS)["b"]["it"].rate_at_edge


def test_steps_are_to_shares_of_what_the_best_undefended_attacker_learns():
    assert UNDEFENDED["fast"].steps == (1, 1, 1)
    assert UNDEFENDED["slow"].steps == (2, 8, INF)
    assert IMMUNIZED["slow"].steps == (4, INF, INF)
    assert IMMUNIZED["fast"].steps == (4, 4, 4)
    for named in FOUND.values():
        assert (named["slow"].undefended_steps, named["fast"].undefended_steps) == ((2, 8, INF), (1, 1, 1))
    # On held-out rows the goal is 0.6, and its shares leave 0.7, 0.52 and 0.43.
    assert UNDEFENDED["slow"].heldout_steps == (4, 4, INF)
    assert IMMUNIZED["slow"].heldout_steps == (4, INF, INF)
    assert IMMUNIZED["slow"].undefended_heldout_steps == (4, 4, INF)
    assert IMMUNIZED["fast"].heldout_steps == (INF, INF, INF)


def test_slow_down_is_beside_the_same_attacker():
    assert (slow_down(IMMUNIZED["slow"]), slow_down(IMMUNIZED["fast"])) == (2, 4)
    assert slow_down(IMMUNIZED["fast"], 2) == 4
    assert slow_down(IMMUNIZED["slow"], 1) == INF
    assert np.isnan(slow_down(IMMUNIZED["slow"], 2))
    assert slow_down(UNDEFENDED["slow"]) == 1
    never = swept("it", [[[0.5, 0.4, 0.3, 0.2]], [[1.0] * 4]])
    assert slow_down(outcomes({"it": never}, ["a", "b"], RECORDS)["b"]["it"]) == INF


def test_half_of_what_the_best_learns_breaks_a_defence():
    # Fitted: 0.4 of 0.8 is just half; held-out: 0.3 of 0.6 is, 0.25 is not.
    assert (IMMUNIZED["slow"].breaks, IMMUNIZED["fast"].breaks) == (True, True)
    assert (IMMUNIZED["slow"].breaks_heldout, IMMUNIZED["fast"].breaks_heldout) == (True, False)
    less = swept("less", [[[0.2] * 4], [[0.61] * 4]])
    assert not outcomes({"less": less}, ["a", "b"], RECORDS)["b"]["less"].breaks


def test_deviation_of_accuracy_at_each_record():
    # Best accuracies: 0.5, 0.5, 0.7, 0.8 undefended and 0.5, 0.5, 0.6, 0.6 immunized.
    deviation = IMMUNIZED["slow"].deviation
    np.testing.assert_allclose(deviation.signed_mean, (0 + 0 + 100 / 7 + 25) / 4)
    np.testing.assert_allclose((deviation.signed_final, deviation.absolute_final), (25, 25))
    np.testing.assert_allclose(IMMUNIZED["slow"].gap, 0.25)
    deviation = IMMUNIZED["fast"].deviation  # 0.8 against 0.4, 0.8, 0.8, 1
    np.testing.assert_allclose((deviation.signed_mean, deviation.absolute_mean), ((50 - 25) / 4, (50 + 25) / 4))
    np.testing.assert_allclose((deviation.signed_final, deviation.absolute_final), (-25, 25))
    np.testing.assert_allclose(IMMUNIZED["fast"].gap, -0.25)


def test_deviation_of_the_loss_learned_where_there_are_no_classes():
    it = swept(
        "it",
        [[[0.5] * 4]] * 2,
        heldout_left=[[[1.5, 0.995, 0.8, 0.6]], [[1.0, 1.0, 0.9, INF]]],
        accuracy=np.full((2, 1, 4), np.nan),
    )
    found = outcomes({"it": it}, ["a", "b"], RECORDS)["b"]["it"]
    # Learned: nothing worth counting twice, then 0.2 and 0.4; by the immunized 0.1 and, diverged, 0.
    np.testing.assert_allclose(found.deviation, ((50 + 100) / 2, (50 + 100) / 2, 100, 100))
    assert found.gap == 1
    assert np.isnan(found.accuracy.estimate)
    np.testing.assert_array_equal(found.heldout_curve, [1, 1, 0.9, INF])
    assert found.heldout_left == (INF, INF, INF)


@pytest.mark.parametrize("left", [1.0, 1.3, 0.995, INF])
def test_where_nobody_learns_nothing_is_reached_and_nothing_broken(left):
    it = swept("it", [[[left] * 4], [[1.0] * 4]], accuracy=np.full((2, 1, 4), np.nan))
    for outcome in (named["it"] for named in outcomes({"it": it}, ["a", "b"], RECORDS).values()):
        assert {*outcome.steps, *outcome.heldout_steps, *outcome.undefended_steps} == {INF}
        assert not outcome.breaks
        assert not outcome.breaks_heldout
        assert outcome.deviation is None
        assert np.isnan([outcome.gap, slow_down(outcome)]).all()


def test_intervals_are_over_seeds():
    values = np.array([0.2, 0.4]).reshape(1, 1, 2, 1)
    found = outcomes({"it": swept("it", values)}, ["a"], (1,))["a"]["it"]
    np.testing.assert_allclose(found.left.estimate, 0.3)
    np.testing.assert_allclose(found.left.high - 0.3, 12.7062 * 0.1, rtol=1e-4)  # t of 1 degree of freedom, sem 0.1
    np.testing.assert_allclose(found.left.low, 0.6 - found.left.high)


def kept(heldout, *accuracies, undefended=1.0):
    """Which accuracies, each reached by another attacker of an extractor, are kept of the best undefended one."""
    names = [str(accuracy) for accuracy in accuracies]
    all_left = [[[0.5] * 4], [[0.99] * 4]]
    all_swept = {
        name: swept(name, all_left, accuracy=[[[undefended] * 4], [[0.0, 0.0, accuracy, 0.0]]])
        for name, accuracy in zip(names, accuracies, strict=True)
    }
    return [o.keeps_accuracy for o in outcomes(all_swept, ["a", "b"], RECORDS, heldout)["b"].values()]


def test_wilson_is_the_textbook_interval():
    # (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), z = 1.959964
    np.testing.assert_allclose(wilson(1.0, 18), (1.0, 18 / (18 + 3.841459), 1.0), rtol=1e-6)
    np.testing.assert_allclose(wilson(0.5, 100), (0.5, 0.403832, 0.596168), rtol=1e-5)
    assert np.isnan(wilson(float("nan"), 0)).all()


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.77, 1.0])
def test_wilson_covers_its_estimate_even_between_counts(share):
    found = wilson(share, 7)
    assert found.low <= found.estimate <= found.high


def test_held_out_rows_know_what_guessing_gets():
    assert HeldOut.of(np.array([1, 1, 1, -1.0])) == HeldOut(4, 0.75)
    assert HeldOut.of(2 * np.eye(3)[[0, 1, 1, 2, 1]] - 1) == HeldOut(5, 0.6)
    assert HeldOut.of(np.array([0.3, 1.7])) is None, "no classes"


def test_the_accuracy_kept_depends_on_how_many_rows_tell():
    accuracies = (0.51, 0.62, 0.67, 0.76, 1.0)
    # Of 18 rows, 12 right reach 0.837, and 18 right may be as few as 0.824.
    assert kept(HeldOut(18, 0.5), *accuracies) == [False, False, True, True, True]
    # 10,000 rows tell 0.76 from 1, but it is half way from guessing.
    assert kept(HeldOut(10_000, 0.5), *accuracies) == [False, False, False, True, True]
    # 4 rows tell nothing apart; guessing is still no attack.
    assert kept(HeldOut(4, 0.5), 0.5, 0.75) == [False, True]


def test_no_accuracy_is_kept_where_there_was_none():
    assert kept(HeldOut(100, 0.5), 0.5, 0.9, undefended=0.505) == [False, False]
    assert kept(None, 1.0) == [False]


def test_a_kept_accuracy_is_reached_at_some_step():
    it = swept("it", [[[0.5] * 4]] * 2, accuracy=[[[0.5, 1.0, 1.0, 1.0]], [[0.5, 0.5, 1.0, 0.6]]])
    found = outcomes({"it": it}, ["a", "b"], RECORDS, HeldOut(18, 0.5))["b"]["it"]
    assert (found.accuracy_steps, found.undefended_accuracy_steps) == (4, 2)
    assert found.accuracy.estimate == found.accuracy_wilson.estimate == 0.6
    np.testing.assert_allclose(found.accuracy_wilson, wilson(0.6, 18))
