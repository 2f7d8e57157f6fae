"""What a ladder found, in sentences."""

from dataclasses import replace

import pytest
from sample_records import changed, data_ladder_record, ladder_record, with_word

from cimm_jax.attacks.ladder.by_rung import FAILS, HOLDS, NOTHING, WEAKENS
from cimm_jax.attacks.ladder.rungs import ANY
from cimm_jax.views.ladder import not_measured
from cimm_jax.views.ladder_words import (
    DONE,
    FLATTERED,
    LADDER_KINDS,
    against_text,
    budget_text,
    claim_texts,
    climbed,
    defence_text,
    rung_name,
    rung_text,
    what_it_stops,
)

FIGURES = "(60 % right, undefended 77 %, random weights 35 %, guessing 35 %; 20 images a class)"


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def rung_of(record, number: int = 1):
    return record.rungs["pencil"][number]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        (HOLDS, f"holds {FIGURES}"),
        (WEAKENS, f"weakens linear probes by any means {FIGURES}"),
        (FAILS, f"does not stop linear probes by any means {FIGURES}"),
        (NOTHING, f"nothing to stop {FIGURES}"),
    ],
)
def test_every_word_of_a_rung_with_the_figures_of_the_weakest_budget(word, told):
    record = with_word(ladder_record(), "pencil", 1, word)
    assert plain(rung_text(record, rung_of(record))) == told


def test_the_budget_that_decides_is_the_one_told():
    record = with_word(ladder_record(), "pencil", 1, WEAKENS)
    record = changed(record, "rungs", "pencil", 1, "budgets", 0, "word", to=HOLDS)
    assert "all 400 images, about 133 a class" in rung_text(record, rung_of(record))
    assert "70\N{NO-BREAK SPACE}% right" in rung_text(record, rung_of(record))


def test_a_defence_is_told_word_by_word_with_what_is_left():
    assert plain(defence_text(ladder_record(), "pencil")) == (
        "It holds against linear probes fitted by gradients; weakens linear probes by any means; does not stop nonlinear "
        "heads, heads on other layers and fine-tuning. Whoever tries everything here gets 94 % of the held-out blocked images "
        "right, with all 400 images, about 133 a class (undefended 95 %, random weights 75 %, guessing 35 %). Attackers "
        "have what the defender had, which flatters the defence."
    )
    record = with_word(data_ladder_record(), "pencil", 0, NOTHING)
    assert plain(defence_text(record, "pencil")) == (
        "It weakens linear probes by any means; does not stop nonlinear heads; has nothing to stop in linear probes fitted by "
        "gradients. Whoever tries everything here gets 89 % of the held-out blocked images right, with all 400 images, about "
        "133 a class (undefended 90 %, guessing 35 %)."
    )


def test_texts_are_called_so():
    record = ladder_record()
    assert record.network is not None
    train = replace(record.network.primary["train"], cut_texts=0)
    record = replace(record, network=replace(record.network, primary={"train": train}))
    told = [defence_text(record, "pencil"), *claim_texts(record, "pencil"), rung_text(record, rung_of(record))]
    told += [against_text(record), *not_measured(record)]
    assert "of the held-out blocked texts right, with all 400 texts, about 133 a class" in plain(told[0])
    assert not [text for text in told if "image" in text]


def test_images_that_a_defence_was_made_with_flatter_it():
    record = ladder_record()
    assert FLATTERED in defence_text(record, "pencil")
    assert FLATTERED not in defence_text(changed(record, "own_images", to=True), "pencil")


def test_rungs_that_were_left_out_are_named_where_there_is_a_network():
    absent = {"layers": "it was left out", "fine-tuning": "it was left out"}
    assert "Not tried: layers and fine-tuning." in defence_text(changed(ladder_record(), "absent", to=absent), "pencil")
    assert "Not tried" not in defence_text(data_ladder_record(), "pencil")
    assert "Not tried" not in defence_text(ladder_record(), "pencil")


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ((HOLDS, HOLDS), "all stopped"),
        ((HOLDS, NOTHING), "rest needs no weights"),
        ((HOLDS, FAILS), "some stopped"),
        ((WEAKENS, FAILS), "some stopped"),
        ((WEAKENS, WEAKENS), "some stopped"),
        ((FAILS, NOTHING), "none stopped"),
        ((FAILS, FAILS), "none stopped"),
        ((NOTHING, NOTHING), "nothing to stop"),
    ],
)
def test_what_it_stops_is_one_of_five(words, kind):
    record = ladder_record()
    for number, word in enumerate(words):
        record = with_word(record, "pencil", number, word)
    assert what_it_stops(record, record.rungs["pencil"][: len(words)]) == kind
    assert kind in LADDER_KINDS


def test_a_claim_says_against_whom_with_what_and_by_how_much():
    first, second = map(plain, claim_texts(ladder_record(), "pencil"))
    assert first == (
        "holds against linear probes fitted by gradients (20 images a class, 2 seeds): adam gets 35 % (32 % to 38.2 %) of the "
        "held-out images right, adam 75 % (72.1 % to 77.7 %) undefended; 93 % (83.6 % to 103 %) of the transfer advantage is "
        "gone."
    )
    assert second.startswith("weakens linear probes by any means (20 images a class, 2 seeds): ridge gets 60 %")


def test_budgets_are_told_by_images_a_class():
    record = ladder_record()
    assert budget_text(record, 60) == "20 images a class"
    assert budget_text(record, 400) == "all 400 images, about 133 a class"
    assert budget_text(changed(record, "budgets", 0, "a_class", to=1), 60) == "1 image a class"
    assert budget_text(record, 7) == "7 images"


def test_against_whom_counts_attackers_and_names_rungs():
    assert against_text(ladder_record()) == (
        "7 attackers on 5 rungs (gradients, linear, nonlinear, layers, fine-tuning), 2 seeds: 20 images a class; all 400 "
        "images, about 133 a class"
    )
    assert against_text(data_ladder_record()).startswith("3 attackers on 3 rungs (gradients, linear, nonlinear)")
    assert climbed(data_ladder_record()) == [0, 1, 2]


def test_every_rung_has_a_name_and_something_that_was_done():
    assert [rung_name(number) for number in (*DONE, ANY.number)] == [
        *("gradients", "linear", "nonlinear", "layers", "fine-tuning", "best of all")
    ]
    assert rung_name(17) == "rung 17"
