"""What runs say together: one verdict that needs no theory, decided by the weakest defence."""

from dataclasses import replace

import pytest
from sample_records import (
    attack_record,
    changed,
    data_ladder_record,
    diagnose_record,
    immunize_record,
    ladder_record,
    network_attack_record,
    one_of_each_command,
    sweep_record,
    with_breaks,
    with_word,
    without,
)

from cimm_jax.attacks.ladder.by_rung import FAILS, HOLDS, NOTHING
from cimm_jax.views.attack_words import gain_text
from cimm_jax.views.blocks import Facts, Figures, Items, Text
from cimm_jax.views.ladder_words import FLATTERED, LADDER_KINDS
from cimm_jax.views.summary import NO_ATTACK, NO_DEFENCE, WORDS, limits, summarise, verdict_of


def facts_of(part) -> dict[str, object]:
    return dict(next(block for section in part.sections for block in section.blocks if isinstance(block, Facts)).facts)


def test_it_says_what_is_kept_what_is_blocked_and_against_whom_first():
    part = summarise(one_of_each_command())
    assert part.title == "Model immunization report"
    assert part.sections[0].title == "What is kept, what is blocked, against whom"
    assert facts_of(part) == {
        "kept": "digit 0 against digit 1; digit 3; each digit in turn",
        "blocked": "digit 2 against digit 3; digit 5; each other digit in turn",
        "against": "4 attackers: 20 steps, 3 rates, 2 seeds, squared loss",
    }
    assert isinstance(part.sections[1].blocks[0], Figures)


def test_it_shows_the_picture_of_each_attack_or_else_the_first_of_the_first_run():
    part = summarise([attack_record(), sweep_record(), network_attack_record()])
    assert len(part.figures) == 2
    assert all(figure.caption.startswith("What attackers get") for figure in part.figures)
    (figure,) = summarise([diagnose_record(), immunize_record()]).figures
    assert figure.caption.startswith("The pencil")


def test_without_an_attack_nothing_is_known():
    part = summarise([immunize_record(), sweep_record()])
    assert (part.headline, part.status) == (NO_ATTACK, "neutral")
    assert facts_of(part)["against"] == "nobody: no attacker was run"
    assert [section.title for section in part.sections][-1] == "Limits"
    assert "No attacker was run" in part.sections[-1].blocks[0].text
    assert "In plain words" not in [section.title for section in part.sections]


def test_an_attack_on_the_undefended_extractor_alone_is_an_attack():
    record = without(attack_record(), "pencil", "pencil_no_slower")
    part = summarise([immunize_record(), record])
    assert (part.headline, part.status) == (NO_DEFENCE, "neutral")
    assert "4 attackers" in facts_of(part)["against"]
    assert not any(
        "No attacker was run" in block.text for s in part.sections for block in s.blocks if isinstance(block, Text)
    )
    both = summarise([record, without(attack_record(), "pencil")])
    assert both.headline.startswith("pencil_no_slower slows only those")


@pytest.mark.parametrize(
    ("broken_by", "kind"), [(("adam", "newton"), "gradient"), (("newton",), "adaptive"), ((), "nobody")]
)
def test_one_defence_is_named_with_what_attackers_get(broken_by, kind):
    record = with_breaks(without(attack_record(), "pencil_no_slower"), "pencil", broken_by)
    status, words, _ = WORDS[kind]
    expected = f"pencil {words} {gain_text(record, 'pencil')}"
    assert verdict_of([record]) == (expected, status)
    part = summarise([record])
    assert (part.headline, part.status) == (expected, status)
    (items,) = (block for section in part.sections for block in section.blocks if isinstance(block, Items))
    assert items.items == [("pencil", expected.removeprefix("pencil "))]


def test_several_defences_are_counted_and_the_weakest_decides_the_colour():
    record = with_breaks(with_breaks(attack_record(), "pencil", ()), "pencil_no_slower", ("adam",))
    headline, status = verdict_of([record])
    assert status == "bad"
    assert headline == (
        "1 of 2 defences does not protect: ordinary training on its features learns the blocked task. 1 of 2 defences was "
        "broken by none of the attackers that were run; others were not tried."
    )
    headline, status = verdict_of([attack_record(), record])
    assert headline.startswith("2 of 4 defences do not protect: ordinary training on their features learns")
    assert "1 of 4 defences slows only those" in headline
    two = with_breaks(with_breaks(attack_record(), "pencil", ()), "pencil_no_slower", ())
    assert verdict_of([two])[0].startswith("2 of 2 defences were broken by none")
    assert verdict_of([two])[1] == "good"


def test_the_words_of_one_and_of_several_say_the_same():
    for _, one, several in WORDS.values():
        assert one.split()[2:4] == several.split()[2:4] or one.split()[1] == several.split()[1]
        assert one.endswith(".")
        assert several.endswith(".")


def test_nobody_is_told_that_it_is_tamper_proof():
    for records in ([attack_record()], [immunize_record()]):
        limits = summarise(records).sections[-1]
        assert limits.title == "Limits"
        assert "nothing here is tamper-proof" in limits.blocks[0].text


def test_budgets_that_are_alike_are_told_once():
    longer = changed(attack_record(), "budget", "steps", to=1000)
    against = facts_of(summarise([attack_record(), attack_record(), longer]))["against"]
    assert against.count("4 attackers") == 2
    assert "1000 steps" in against


def with_words(record, defence, word):
    """The same, every rung of a defence with one word."""
    for number in range(len(record.rungs[defence])):
        record = with_word(record, defence, number, word)
    return record


def met_both(broken_by, word):
    """An attack and a ladder on one defence of the same pair."""
    attack = with_breaks(without(attack_record(), "pencil_no_slower"), "pencil", broken_by)
    ladder = replace(data_ladder_record(), source=attack.source)
    return [attack, with_words(ladder, "pencil", word)]


def test_the_pictures_of_a_ladder_come_first_and_its_words_too():
    part = summarise([attack_record(), immunize_record(), ladder_record()])
    assert [" images" in figure.caption for figure in part.figures] == [True, True, False]
    against = facts_of(part)["against"]
    assert against.startswith("7 attackers on 5 rungs (gradients, linear, nonlinear, layers, fine-tuning)")
    assert "4 attackers: 20 steps" in against
    assert facts_of(part)["blocked"] == "digit 2 against digit 3; h"
    (items,) = (block for section in part.sections for block in section.blocks if isinstance(block, Items))
    assert [name for name, _ in items.items] == ["pencil", "algorithm1", "pencil", "pencil_no_slower"]
    assert items.items[0][1].startswith(f"{LADDER_KINDS['some stopped'][2]} It holds against linear probes fitted by")


@pytest.mark.parametrize(
    ("word", "kind"), [(HOLDS, "all stopped"), (FAILS, "none stopped"), (NOTHING, "nothing to stop")]
)
def test_one_defence_on_a_ladder_is_named(word, kind):
    headline, status = verdict_of([with_words(data_ladder_record(), "pencil", word)])
    assert headline.startswith(f"pencil {LADDER_KINDS[kind][2]} It ")
    assert status == LADDER_KINDS[kind][0]


@pytest.mark.parametrize(
    ("broken_by", "word", "status", "begins"),
    [
        (("adam", "newton"), HOLDS, "bad", "pencil does not protect: ordinary training"),
        (("newton",), HOLDS, "warn", "pencil slows only those"),
        (("newton",), FAILS, "bad", "pencil does not protect: no kind of attacker"),
        ((), FAILS, "bad", "pencil does not protect: no kind of attacker"),
        ((), HOLDS, "good", "pencil holds against every kind"),
        ((), NOTHING, "good", "pencil was broken by none"),
    ],
)
def test_where_a_defence_met_both_the_weaker_figure_decides(broken_by, word, status, begins):
    for records in (met_both(broken_by, word), met_both(broken_by, word)[::-1]):
        headline, found = verdict_of(records)
        assert found == status
        assert headline.startswith(begins)


def test_defences_of_other_pairs_are_others_whatever_their_name():
    attack, ladder = met_both(("newton",), FAILS)
    elsewhere = ladder_record()
    assert verdict_of([attack, elsewhere])[0].startswith("2 of 3 defences hinder some kinds of attackers only")
    assert "1 of 3 defences slows only those" in verdict_of([attack, elsewhere])[0]
    other_task = changed(ladder, "names", "harmful", to="digit 6 against digit 7")
    assert verdict_of([attack, other_task])[0].startswith("1 of 2 defences does not protect")
    assert verdict_of([ladder, elsewhere])[1] == "bad"
    assert verdict_of([with_words(ladder, "pencil", HOLDS), elsewhere])[1] == "warn"


def test_images_of_the_defender_flatter_one_defence_and_several():
    own = changed(ladder_record(), "own_images", to=True)
    assert verdict_of([ladder_record()])[0].endswith(FLATTERED)
    assert FLATTERED not in verdict_of([own])[0]
    alone = changed(ladder_record(), "rungs", to={"pencil": ladder_record().rungs["pencil"]})
    assert verdict_of([alone])[0].endswith(FLATTERED)
    nobody = changed(ladder_record(), "rungs", to={})
    assert verdict_of([nobody]) == (NO_DEFENCE, "neutral")


def test_limits_say_what_attackers_of_the_ladder_did_and_did_not():
    text = limits([ladder_record()])
    assert "fine-tuned the network, with the budgets above. None had more data or trained longer" in text
    assert "without a ladder" not in text
    of_data = limits([data_ladder_record()])
    assert "solved for linear probes and fitted nonlinear heads, with" in of_data
    assert "None took other layers, fine-tuned the network, had more data or trained longer" in of_data
    assert "In attacks without a ladder they fitted linear probes alone." in limits([attack_record(), ladder_record()])
    assert "None fine-tuned the extractor" in limits([attack_record()])
    assert all("nothing here is tamper-proof" in told for told in (text, of_data))
