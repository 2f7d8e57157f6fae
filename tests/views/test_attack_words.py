"""What was found by attackers, in sentences."""

import math

import pytest
from sample_records import attack_record, changed, network_attack_record

from cimm_jax.attacks import Breach, Claim, Price, Slowed
from cimm_jax.numerics.interval import Interval
from cimm_jax.views.attack_words import (
    KINDS,
    budget_text,
    claim_text,
    cost_text,
    gain_text,
    gains,
    heldout_loss,
    kind_of,
    slowed_text,
    verdict,
)

NEWTON = Breach("newton", True, 1.0, 0.0, True, True, False, None)
LINE_SEARCH = Breach("line_search", False, 80.0, 0.3, True, True, False, None)
BY_ACCURACY = Breach("momentum", False, 5.0, 0.57, False, False, True, 1.0)
ALL_RIGHT = {"accuracy": Interval(1.0, 0.824, 1.0), "undefended_accuracy": Interval(1.0, 0.824, 1.0)}


def claim(*broken_by, **given):
    """An extractor of which nobody who follows gradients gets half."""
    numbers = {"left": 0.8, "undefended_left": 0.05, "heldout_left": 0.95, "undefended_heldout_left": 0.2}
    found = {"by_loss": Slowed(100.0, True), "by_accuracy": None, "accuracy": None, "undefended_accuracy": None}
    return Claim("mine", "adam", undefended_attacker="sgd", broken_by=broken_by, **{**numbers, **found, **given})


def test_followers_of_gradients_are_told_from_those_who_know_better():
    assert verdict(claim(NEWTON)) == (
        "protects against every attacker here who follows gradients on the features as they are, and not against those who "
        "know better: newton breaks it in one step."
    )
    assert verdict(claim(NEWTON, LINE_SEARCH)) == (
        "does not protect. line_search breaks it in 80 steps, taking its features as they come."
    )
    assert verdict(claim()) == "was broken by none of these attackers."
    assert "nothing to protect" in verdict(claim(by_loss=None))


@pytest.mark.parametrize(
    ("made", "kind", "status"),
    [
        (claim(NEWTON, LINE_SEARCH), "gradient", "bad"),
        (claim(NEWTON), "adaptive", "warn"),
        (claim(), "nobody", "good"),
        (claim(by_loss=None), "nothing", "neutral"),
        (claim(NEWTON, by_loss=None), "nothing", "neutral"),
    ],
)
def test_who_broke_it_is_one_of_four_kinds(made, kind, status):
    assert kind_of(made) == kind
    assert KINDS[kind][0] == status


def test_how_much_it_slows():
    assert slowed_text(Slowed(100.0, True)) == "more than 100x"
    assert slowed_text(Slowed(8.0, False)) == "8x"
    assert slowed_text(None) == "-"


def test_a_claim_says_whom_it_slows_under_what_by_how_much():
    record = attack_record()
    text = claim_text(claim(), record)
    assert text == (
        "slows the best attacker who follows gradients (20 steps, 3 rates, 2 seeds, squared loss) by more than 100x: adam "
        "leaves 0.8 of the excess harmful loss, and sgd leaves 0.05 undefended; on held-out rows 0.95 of the loss against 0.2."
    )
    assert "0.95 of the errors against 0.2" in claim_text(claim(), network_attack_record())
    assert claim_text(claim(by_loss=Slowed(1.0, False)), record) == "", "nobody is slowed"
    assert claim_text(claim(by_loss=Slowed(0.5, False)), record) == ""
    assert claim_text(claim(by_loss=None), record) == ""
    assert claim_text(claim(by_loss=Slowed(1.0, True)), record), "one step was not enough"


def test_where_loss_and_accuracy_disagree_both_are_said_and_the_weaker_decides():
    """A harmful folder of 18 held-out images, all of them classified rightly, undefended and immunized."""
    made = claim(BY_ACCURACY, left=0.57, heldout_left=0.0, by_accuracy=Slowed(2.5, False), **ALL_RIGHT)
    assert kind_of(made) == "gradient"
    assert verdict(made).replace("\xa0", " ") == (
        "does not protect. momentum breaks it in 5 steps: it leaves 0.57 of the excess loss, yet classifies 100 % of the "
        "held-out rows rightly (undefended 100 %, as far as so many rows can tell between 82.4 % and 100 %), taking its "
        "features as they come."
    )
    text = claim_text(made, network_attack_record()).replace("\xa0", " ")
    assert "by 2.5x (half of the loss: more than 100x; the accuracy: 2.5x)" in text
    assert "held-out accuracy 100 % (82.4 % to 100 %) against 100 % (82.4 % to 100 %)" in text
    no_slower = made._replace(by_accuracy=Slowed(1.0, False))
    assert claim_text(no_slower, network_attack_record()) == "", "nobody is slowed by 1x"


def test_the_budget_is_the_largest_of_any_attacker():
    budget = attack_record().budget
    assert budget_text(budget) == "20 steps, 3 rates, 2 seeds, squared loss"
    assert ", 1 rate, " in budget_text(changed(budget, "rates", to={"newton": ()}))


def test_a_price_is_told_beside_what_the_task_costs_undefended():
    def price(extractor, slow_down, task="primary"):
        return Price(task, extractor, 0.2, 0.1, 0.3, None, slow_down)

    cost = [price("undefended", 1.0), price("slow", 2.5), price("fast", 1.0), price("never", None)]
    kept = "keeps 0.1 of its excess loss (undefended 0.1), held-out 0.3 (0.3)"
    assert cost_text("slow", cost) == f"the primary task gets half way in 2.5 times the steps and {kept}."
    assert cost_text("fast", cost) == f"the primary task gets half way no slower and {kept}."
    assert cost_text("never", cost) == f"the primary task no longer gets half way and {kept}."
    both = [*cost, price("undefended", 1.0, "benign"), price("slow", 1.0, "benign")]
    assert "; the benign task gets half way no slower" in cost_text("slow", both)
    assert cost_text("other", cost) == ""


def test_held_out_numbers_say_what_they_are_shares_of():
    assert heldout_loss(attack_record()) == "loss, over that of a zero probe"
    assert heldout_loss(network_attack_record()) == "errors, over those of guessing"


def test_gains_are_accuracies_of_classes_and_shares_of_the_loss_otherwise():
    record = attack_record()
    harmful = record.tasks["harmful"]
    found = gains(record)
    assert (found.extractors[0], found.label) == ("undefended", "held-out accuracy")
    place = found.extractors.index("pencil_no_slower")
    assert found.anybody[place] == harmful["pencil_no_slower"]["newton"].accuracy.estimate
    assert found.followers[place] == harmful["pencil_no_slower"]["adam"].accuracy.estimate
    found = gains(changed(record, "classes", to=False))
    assert found.label == "share of the held-out loss learned"
    assert found.anybody[place] == 1 - harmful["pencil_no_slower"]["newton"].heldout_left.estimate


def test_a_gain_is_never_less_than_nothing_nor_more_than_all():
    record = changed(attack_record(), "classes", to=False)
    for left, gain in ((1.7, 0.0), (math.nan, 0.0), (-0.1, 1.0)):
        one = {
            name: o._replace(heldout_left=o.heldout_left._replace(estimate=left)) for name, o in _pencil(record).items()
        }
        found = gains(changed(record, "tasks", "harmful", "pencil", to=one))
        assert found.anybody[1] == found.followers[1] == gain


def test_a_gain_in_words():
    text = gain_text(attack_record(), "pencil_no_slower").replace("\xa0", " ")
    assert text == (
        "Whoever tries every attack here gets 95 % of the held-out harmful rows right (undefended 95 %); whoever only follows "
        "gradients gets 51.8 % (undefended 95 %)."
    )
    assert "of what there is to learn of the harmful task" in gain_text(
        changed(attack_record(), "classes", to=False), "pencil"
    )


def _pencil(record):
    return record.tasks["harmful"]["pencil"]
