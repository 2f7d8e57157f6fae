"""What runs say together: one verdict that needs no theory, decided by the weakest defence."""

import pytest
from sample_records import (
    attack_record,
    changed,
    diagnose_record,
    immunize_record,
    network_attack_record,
    one_of_each_command,
    sweep_record,
    with_breaks,
    without,
)

from cimm_jax.views.attack_words import gain_text
from cimm_jax.views.blocks import Facts, Figures, Items, Text
from cimm_jax.views.summary import NO_ATTACK, NO_DEFENCE, WORDS, summarise, verdict_of


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
