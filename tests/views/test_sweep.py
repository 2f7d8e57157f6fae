"""The part of a sweep: pairs that meet the definition, means, maps, and what the paragraph may say."""

import jax
import numpy as np
import pytest
from pages import undrawn_page
from sample_records import changed, sweep_record

from cimm_jax.closed_form.limits import Share
from cimm_jax.measures.definition import Conditions, Judgement
from cimm_jax.measures.ratios import ImmunizationRatio
from cimm_jax.methods import Measured
from cimm_jax.numerics.spectra import Spectrum
from cimm_jax.views.render.picture import png_of
from cimm_jax.views.sweep import sweep_paragraph, sweep_part

AT = ("methods", "ill_only")


def measured(train, heldout, harmful=1.0, primary=1.0):
    """Two pairs, three seeds; `train` and `heldout` say which pairs are immunized."""
    shape = (2, 3)
    spectrum = Spectrum(*[np.ones(shape)] * 5)
    ratio = ImmunizationRatio(np.ones(shape), np.full(shape, harmful), np.full(shape, primary), *[spectrum] * 4)

    def judged(pairs):
        held = np.repeat(np.array(pairs)[:, None], 3, axis=1)
        return Judgement(ratio, np.ones(shape), np.ones(shape), Conditions(held, held, held))

    return jax.tree.map(np.asarray, Measured(judged(train), judged(heldout), ratio, Share(*[np.full(shape, 0.36)] * 4)))


def cells_from(page, *cells) -> list[str]:
    place = next(at for at in range(len(page.alone)) if page.alone[at : at + len(cells)] == list(cells))
    return page.alone[place:]


def test_protected_pairs_are_counted_on_both_parts():
    paragraph = sweep_paragraph({"ours": measured([True, True], [True, False])}, 2)
    assert "ours protected 2 of 2 pairs on the rows it saw and 1 on held-out rows" in paragraph


def test_shares_of_the_limit_are_said():
    paragraph = sweep_paragraph({"ours": measured([True, True], [True, False])}, 2)
    assert "ours reaches 36\N{NO-BREAK SPACE}%" in paragraph


def test_a_method_that_protects_nothing_is_told_so():
    paragraph = sweep_paragraph({"theirs": measured([False, False], [False, False], harmful=20, primary=5)}, 2)
    assert "theirs protected none of the 2 pairs" in paragraph
    assert "that much harder on 2" in paragraph
    assert "primary task harder on 2" in paragraph


def test_the_paragraph_says_what_a_condition_number_does_not_mean():
    paragraph = sweep_paragraph({"ours": measured([True, True], [True, True])}, 2)
    assert "It says nothing about an attacker who whitens" in paragraph
    assert "a linear map alone protects nothing" in paragraph


def test_pairs_that_meet_the_definition_are_counted_in_headline_and_table():
    yes, half = np.ones((90, 1), bool), np.arange(90)[:, None] < 45
    record = changed(sweep_record(), *AT, "train", "conditions", to=Conditions(yes, yes, yes))
    record = changed(record, *AT, "heldout", "conditions", to=Conditions(yes, yes, half))
    page = undrawn_page(record)
    assert "ill_only protected 90 of 90 pairs on the rows it saw and 45 on held-out rows." in page.text
    assert "ill_only 50 % (100 % on training rows)" in page.text
    assert cells_from(page, "ill_only")[7:9] == ["100 %", "50 %"]
    assert cells_from(page, "ill_only", "training")[2:5] == ["100 %", "100 %", "100 %"]
    assert cells_from(page, "held-out", "100 %")[1:4] == ["100 %", "100 %", "50 %"]


def test_means_are_geometric_and_losses_ranks_and_floors_stand_below():
    record = sweep_record()
    log = np.log(9) + np.log(2) / 90
    assert cells_from(undrawn_page(record), "ill_only")[1:4] == [f"{log:.4g}", "50 %", "0.07266"]
    row = cells_from(undrawn_page(record), "ill_only", "training")
    assert row[5:11] == ["2", "3", "7", "7", "0 %", "none"]
    exceeded = changed(record, *AT, "share", "exceeded", to=np.arange(90)[:, None] < 2)
    assert "2: A BUG, please report it" in undrawn_page(exceeded).alone


def test_a_map_is_drawn_for_every_method_and_part():
    part = sweep_part(sweep_record())
    assert [figure.caption.partition(":")[0] for figure in part.figures] == [
        "ill_only, training rows",
        "ill_only, held-out rows",
    ]
    assert part.figures[0].alt == "From 2.2 to 2.9, the latter with digit 0 kept and digit 1 blocked."
    assert "mean 2.205" in part.figures[0].caption


@pytest.mark.parametrize(
    ("values", "alt"),
    [
        (np.r_[[np.nan] * 5, [np.e] * 85], "From 1.0 to 1.0, the latter with digit 1 kept and digit 0 blocked."),
        (np.r_[[np.inf, 0.0], [1.0] * 88], "From -inf to inf, the latter with digit 0 kept and digit 1 blocked."),
        (np.full(90, np.nan), "No number."),
    ],
    ids=["some missing", "infinite", "all missing"],
)
def test_missing_and_infinite_numbers_are_survived(values, alt):
    record = changed(sweep_record(), *AT, "train", "ratio", "rir", to=values[:, None])
    part = sweep_part(record)
    assert part.figures[0].alt == alt
    assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")


def test_it_says_what_was_swept():
    page = undrawn_page(sweep_record())
    assert "Sweep over 90 pairs of digits" in [text for _, text in page.headings]
    for text in ("each digit in turn", "each other digit in turn", "of kind single", "train 12, heldout 11"):
        assert text in page.alone, text
