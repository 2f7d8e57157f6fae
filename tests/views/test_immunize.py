"""The part of an immunization: a verdict with its reasons, what line search still learns, and what all of it rests on."""

import numpy as np
import pytest
from pages import undrawn_page
from sample_records import changed, immunize_record, network_map_record, trained_blocks_record

from cimm_jax.measures.excess import TaskCurves
from cimm_jax.views.immunize import claims_of, immunize_part

AT = ("measures", "parts")


def with_curves(undefended, immunized):
    curves = TaskCurves(np.array(undefended), np.array(immunized))
    return changed(immunize_record(), *AT, "train", "excess", "harmful", to=curves)


def cells_from(page, *cells) -> list[str]:
    place = next(at for at in range(len(page.alone)) if page.alone[at : at + len(cells)] == list(cells))
    return page.alone[place:]


def test_the_verdict_of_each_part_has_its_reasons_and_is_never_good():
    record = changed(immunize_record(), *AT, "heldout", "verdict", "immunized", to=False)
    part, page = immunize_part(record), undrawn_page(record)
    assert part.headline == "By Definition 3.1: immunized on training rows, NOT immunized on held-out rows."
    assert part.headline in page.text
    assert "NOT immunized by Definition 3.1" in page.text
    assert "Held-out rows: (a) yes: harder. (b) yes: as easy. (c) yes: kept." in page.alone
    assert part.status == "warn", "a verdict on condition numbers is no protection"
    assert immunize_part(changed(record, *AT, "train", "verdict", "immunized", to=False)).status == "bad"


def test_it_claims_what_exact_line_search_needs():
    record = with_curves([1.0, 0.9, 0.5, 0.25], [1.0, 0.9, 0.8, 0.7])
    text = (
        "Training rows: it slows gradient descent with exact line search on the harmful task, under a budget of 3 steps, by "
        "more than 1.5x to half; after 3 steps, 0.7 of the excess loss is left, undefended 0.25."
    )
    assert claims_of(record)[0] == text
    assert text in undrawn_page(record).alone
    assert "by 1.5x to half" in claims_of(with_curves([1.0, 0.9, 0.5, 0.25], [1.0, 0.9, 0.8, 0.5]))[0]


@pytest.mark.parametrize(
    ("undefended", "immunized"),
    [
        ([1.0, 0.9, 0.5, 0.25], [1.0, 0.5, 0.4, 0.3]),
        ([1.0, 0.9, 0.5, 0.25], [1.0, 0.9, 0.5, 0.25]),
        ([1.0, 0.9, 0.9, 0.9], [1.0, 0.9, 0.9, 0.9]),
    ],
    ids=["faster", "as fast", "nobody gets half way"],
)
def test_it_claims_nothing_where_nobody_is_slowed(undefended, immunized):
    record = with_curves(undefended, immunized)
    assert [text for text in claims_of(record) if text.startswith("Training")] == []
    both = changed(record, *AT, "heldout", to=record.measures.parts["train"])
    assert "None: no attacker is slowed." in undrawn_page(both).alone


def test_without_targets_nothing_is_claimed_or_drawn():
    record = immunize_record()
    for part in ("train", "heldout"):
        record = changed(record, *AT, part, "excess", to=None)
    page = undrawn_page(record)
    assert "The harmful task has no targets: nothing is claimed about what an attacker learns." in page.alone
    assert "What exact line search leaves" not in page.text
    assert len(immunize_part(record).figures) == 2
    primary_only = changed(immunize_record(), *AT, "train", "excess", "harmful", to=None)
    primary_only = changed(primary_only, *AT, "heldout", "excess", to=None)
    assert "The harmful task has no targets" in undrawn_page(primary_only).text
    assert len(immunize_part(primary_only).figures) == 3


def test_the_course_is_drawn_only_of_a_method_that_has_one():
    assert len(immunize_part(immunize_record()).figures) == 4
    assert len(immunize_part(changed(immunize_record(), "history", to=None)).figures) == 2
    alts = undrawn_page(immunize_record()).attributes("alt")
    assert any("PseudoInverse: harmful 6 to 9, primary 5 to 4. A floor decided 1 of them." in alt for alt in alts)


def test_intervals_stand_under_the_policy_they_are_of():
    record = changed(immunize_record(), *AT, "heldout", "intervals", "rir", "low", to=1.25)
    row = cells_from(undrawn_page(record), "held-out", "PseudoInverse")
    assert row[5:8] == ["1.25 to 2", "2 to 3", "3 to 4"]
    assert row[9:11] == ["85 to 6before 9", "104 to 5before 11"]
    row = cells_from(undrawn_page(record), "held-out", "ReleasedCode")
    assert row[5:11] == ["", "", "", "", "8before 9", "10before 11"]
    assert "95 % of resamples" in undrawn_page(record).text
    assert "resamples" not in undrawn_page(trained_blocks_record()).text.partition("All settings")[0]


def test_what_line_search_leaves_after_some_steps():
    row = cells_from(undrawn_page(immunize_record()), "harmful", "immunized")
    assert row[2:5] == ["0.999", "0.99", "0.9048"]
    record = with_curves([1.0, 0.5], [1.0, 0.75])
    assert cells_from(undrawn_page(record), "harmful", "immunized")[2:5] == ["-", "-", "-"]


def test_a_map_of_a_network_says_what_the_primary_task_lost():
    page = undrawn_page(network_map_record())
    assert cells_from(page, "training", "0.7500")[:5] == ["training", "0.7500", "0.5000", "2.0e-05", "yes"]
    assert "pencil on small: keep p, block h" in [text for _, text in page.headings]
    assert "18 (0.5)" in page.alone
    assert "20 groups of 36 training rows (Eq. 17), mean (standard error)" in page.text
    skipped = changed(network_map_record(), "network", "harmful", "train", "skipped", to=2)
    assert "2 could not be decoded and were skipped" in undrawn_page(skipped).text


def test_trained_blocks_say_how_they_were_trained():
    page = undrawn_page(trained_blocks_record())
    assert "algorithm1 on small trained from layer3.0: keep p, block h" in [text for _, text in page.headings]
    for text in ("layer3.0", "0.5, 2", "1.5", "12", "0.01", "0.1", "0.05"):
        assert text in page.alone, text
    alone = changed(trained_blocks_record(), "training", "lambdas", to=())
    assert "none" in undrawn_page(alone).alone


def test_what_was_immunized_is_told_as_it_was_asked_for():
    assert "data digits, data dir folder" in undrawn_page(immunize_record()).alone
    asked = 'model small, weights w.safetensors, primary images/p, harmful images/h, harmful classes ["cat", "dog"], views 3'
    assert asked in undrawn_page(network_map_record()).alone


def test_what_was_not_measured_and_what_it_means():
    page = undrawn_page(immunize_record())
    assert "cimm attack measures most of these" in page.text
    assert "nothing here is tamper-proof" in page.text
