"""The part of an attack: who broke what first, then claims, figures, tables, and what is left open."""

import math

import numpy as np
import pytest
from pages import undrawn_page
from sample_records import (
    ATTACKERS,
    EXTRACTORS,
    attack_record,
    changed,
    network_attack_record,
    with_breaks,
    without,
)

from cimm_jax.attacks import STANDARD, claims
from cimm_jax.measures.groups import GroupedRatio, Mean
from cimm_jax.numerics.interval import Interval
from cimm_jax.views.attack import attack_part, claims_of, headline
from cimm_jax.views.attack_words import claim_text, cost_text
from cimm_jax.views.render.picture import png_of

NOTHING = Interval(math.nan, math.nan, math.nan)


def with_outcome(record, extractor, attacker, **given):
    outcome = record.tasks["harmful"][extractor][attacker]
    return changed(record, "tasks", "harmful", extractor, attacker, to=outcome._replace(**given))


def card_labels(page) -> list[str]:
    return [attributes["class"].split()[1] for _, attributes in page.tags if "chip" in attributes.get("class", "")]


def row_of(page, *cells) -> list[str]:
    """The cells of the first row that begins with these."""
    place = next(at for at in range(len(page.alone)) if page.alone[at : at + len(cells)] == list(cells))
    return page.alone[place : place + 20]


def test_sections_come_in_the_order_that_keeps_claims_honest():
    sections = attack_part(attack_record()).sections
    assert [section.title for section in sections if not section.folded] == [
        *(
            "Tasks",
            "Verdict",
            "What attackers get",
            "Broken by",
            "Claims",
            "What each attacker leaves",
            "On held-out rows",
        ),
        *("The price to other tasks", "Price in words", "Not measured"),
    ]
    assert [section.title for section in sections if section.folded] == [
        *("Tuning of each attacker", "RFD and SGR", "Definition 3.1", "Condition numbers"),
        *("Manifest", "SHA-256 of the data", "All settings"),
    ]


def test_every_attacker_and_extractor_heads_a_row_or_a_column_of_each_table():
    headers = undrawn_page(attack_record()).headers
    for name in ATTACKERS:
        assert headers.count(("row", name)) == 4, name
    for name in EXTRACTORS[1:]:
        assert headers.count(("col", name)) == 4, name
        assert headers.count(("rowgroup", name)) == 1, name
    assert headers.count(("col", "undefended")) == 3, "it does not deviate from itself"


def test_claims_are_those_of_the_summary_and_of_the_report():
    record = attack_record()
    shown = undrawn_page(record).alone
    found = claims(record.tasks["harmful"], record.records)
    texts = [f"{claim.extractor} {claim_text(claim, record)}" for claim in found]
    assert claims_of(record) == texts
    assert len(texts) == 2
    assert all(text.replace("\N{NO-BREAK SPACE}", " ") in shown for text in texts)
    assert all("slows the best attacker" in text for text in texts)


def test_claims_hold_claims_alone():
    record = attack_record()
    record = changed(record, "tasks", "harmful", "pencil", to=record.tasks["harmful"]["undefended"])
    (section,) = (section for section in attack_part(record).sections if section.title == "Claims")
    assert [name for name, _ in section.blocks[0].items] == ["pencil_no_slower"], "pencil slows nobody"
    assert claims_of(record) == [f"pencil_no_slower {section.blocks[0].items[0][1]}"]
    (section,) = (s for s in attack_part(without(record, "pencil_no_slower")).sections if s.title == "Claims")
    assert section.blocks[0].text.startswith("None:")


@pytest.mark.parametrize(
    ("names", "status", "said"),
    [
        (("adam", "newton"), "bad", "1 broken by gradient followers"),
        (("newton",), "warn", "1 broken by adaptive attackers only"),
        ((), "good", "1 broken by none of these attackers"),
    ],
)
def test_gradient_followers_and_adaptive_attackers_are_told_apart(names, status, said):
    record = with_breaks(without(attack_record(), "pencil_no_slower"), "pencil", names)
    page = undrawn_page(record)
    assert card_labels(page)[0] == status
    assert attack_part(record).status == status
    assert f"Of 1 immunized extractor: {said}." in page.text
    assert ("adam (7)" in page.alone) == ("adam" in names)
    assert ("newton (7)" in page.alone) == ("newton" in names)
    assert f"{int('adam' in names)} of 3 gradient followers" in page.text
    assert f"{int('newton' in names)} of 1 adaptive attackers" in page.text


def test_the_headline_counts_every_kind_the_worst_first():
    record = with_breaks(with_breaks(attack_record(), "pencil", ()), "pencil_no_slower", ("adam",))
    text = headline(claims(record.tasks["harmful"], record.records))
    assert text == "Of 2 immunized extractors: 1 broken by gradient followers, 1 broken by none of these attackers."
    assert attack_part(record).status == "bad"


def test_nothing_learned_undefended_is_nothing_to_protect():
    record = attack_record()
    for extractor in EXTRACTORS:
        record = with_breaks(record, extractor, ())
    assert card_labels(undrawn_page(record))[:2] == ["neutral", "neutral"]
    assert claims_of(record) == []


def test_a_break_on_rows_fitted_only_is_marked():
    record = with_breaks(attack_record(), "pencil", ("newton",))
    assert "newton†" not in undrawn_page(record).text
    record = with_outcome(record, "pencil", "newton", breaks_heldout=False)
    assert "newton† (7)" in undrawn_page(record).alone


def test_a_break_by_accuracy_alone_is_marked_and_decides():
    record = with_breaks(attack_record(), "pencil", ())
    record = with_outcome(record, "pencil", "adam", keeps_accuracy=True, accuracy_steps=9.0)
    page = undrawn_page(record)
    assert "adam* (9)" in page.alone
    assert card_labels(page)[0] == "bad"
    assert "adam breaks it in 9 steps: it leaves" in page.text


def test_a_cell_holds_loss_steps_interval_and_marks():
    record = with_outcome(
        attack_record(),
        "pencil",
        "sgd",
        left=Interval(0.25, 0.125, 0.375),
        steps=(3.0, 14.0, math.inf),
        rate_at_edge=True,
        diverged=1 / 3,
    )
    assert "0.253 / 14 / never0.12 to 0.3833 % divergededge" in undrawn_page(record).alone
    record = with_outcome(
        record,
        "pencil",
        "sgd",
        left=Interval(*[0.25] * 3),
        steps=(math.inf,) * 3,
        rate_at_edge=False,
        diverged=0.0,
        breaks=False,
    )
    assert "0.25never" in undrawn_page(record).alone
    record = with_outcome(record, "pencil", "sgd", left=Interval(-1e-17, math.nan, math.nan), steps=(3.0,) * 3)
    assert "03 / 3 / 3" in undrawn_page(record).alone, "rounding leaves no less than nothing, and one seed no interval"


def test_divergence_at_every_rate_is_said_and_drawn():
    record = attack_record()
    nowhere = np.full(len(record.records), np.nan)
    record = with_outcome(
        record, "pencil", "line_search", left=NOTHING, heldout_left=NOTHING, accuracy=NOTHING, curve=nowhere
    )
    page = undrawn_page(record)
    assert page.alone.count("diverged") == 2
    assert any("pencil diverged" in alt for alt in page.attributes("alt"))
    part = attack_part(record)
    assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")


def test_the_best_rate_is_shown_beside_those_tried():
    record = with_outcome(attack_record(), "pencil", "adam", rate=0.1, trials=3, norm_ratio=0.0625, steps=(12.0,) * 3)
    page = undrawn_page(record)
    undefended = "undefended 1 / 2 / 5held-out undefended 1 / 2 / 5accuracy undefended 5"
    assert f"0.1 of 3Eq. 16: 0.0625slowed 12x{undefended}" in page.alone
    assert "adam0.1, 1, 10" in page.text.replace("\n", "")
    many = tuple(np.geomspace(1e-4, 10, 9))
    assert "9 from 1.000e-04 to 10" in undrawn_page(changed(record, "budget", "rates", "adam", to=many)).alone
    record = with_outcome(record, "pencil", "adam", steps=(math.inf,) * 3, undefended_steps=(math.inf,) * 3)
    shown = "0.1 of 3Eq. 16: 0.0625undefended neverheld-out undefended 1 / 2 / 5accuracy undefended 5"
    assert shown in undrawn_page(record).alone


def test_deviation_is_signed_and_absolute_mean_and_final():
    record = attack_record()
    deviation = record.tasks["harmful"]["pencil"]["adam"].deviation
    deviation = deviation._replace(signed_mean=-12.34, absolute_mean=43.21, signed_final=5.0, absolute_final=6.0)
    record = with_outcome(record, "pencil", "adam", deviation=deviation, gap=0.05)
    assert "-12.3 → +5.0absolute 43.2 → 6.0SGR 0.050" in undrawn_page(record).alone
    record = with_outcome(record, "pencil", "adam", deviation=None, gap=math.nan)
    assert "SGR 0.050" not in undrawn_page(record).text


def test_condition_numbers_name_policy_ranks_floor_and_share_of_the_limit():
    record = attack_record()
    at = ("extractors", "pencil", "measures", "parts", "heldout")
    record = changed(record, *at, "share", "share", to=0.123)
    released = (*at, "ratios", "ReleasedCode")
    for field, value in (("rir", 1234.5), ("harmful_ratio", 2469.0), ("primary_ratio", 2.0)):
        record = changed(record, *released, field, to=value)
    record = changed(record, *released, "harmful", "rank", to=31)
    record = changed(record, *released, "harmful", "floored", to=True)
    record = changed(record, *released, "harmful_reference", "rank", to=29)
    page = undrawn_page(record)
    assert "12.3 %log 1 of 2" in page.alone
    row = row_of(page, "held-out", "ReleasedCode")
    assert row[2:5] == ["2469", "2", "1234"]
    assert row[5:9] == ["", "", "", ""], "no interval or share under a policy that they are not of"
    assert row[9:14] == ["8before 9", "10before 11", "31before 29", "7", "yes"]


def test_what_was_not_measured_is_named():
    record = attack_record()
    shown = undrawn_page(record).text
    for name in set(STANDARD) - set(ATTACKERS):
        assert name in shown, name
    assert "Spread over seeds" not in shown
    assert "The run was interrupted" not in shown
    assert "fine-tunes the extractor itself" in shown
    record = changed(record, "budget", "seeds", to=1)
    record = changed(record, "budget", "attackers", to=(*ATTACKERS, "muon"))
    shown = undrawn_page(with_outcome(record, "pencil", "adam", rate_at_edge=True)).text
    assert "Spread over seeds" in shown
    assert "The run was interrupted before muon had finished; 4 finished the harmful task." in shown
    assert "edge of the grid for adam" in shown


def test_accuracy_is_shown_only_of_classes():
    wilson = Interval(0.625, 0.25, 0.875)
    record = with_outcome(
        attack_record(),
        "pencil",
        "adam",
        accuracy=Interval(0.625, 0.5, 0.75),
        accuracy_wilson=wilson,
        accuracy_steps=9.0,
    )
    assert "accuracy 62.5 %, 25 % to 87.5 %0.5 to 0.75kept after 9" in undrawn_page(record).text
    record = changed(record, "classes", to=False)
    record = with_outcome(record, "pencil", "adam", accuracy=NOTHING)
    shown = undrawn_page(record).text
    assert "62.5" not in shown
    assert "Accuracy: the targets are not classes." in shown


def test_an_interrupted_run_is_shown_as_far_as_it_came():
    record = attack_record()
    primary = {
        extractor: {name: o for name, o in of.items() if name not in ("newton", "line_search")}
        for extractor, of in record.tasks["primary"].items()
    }
    record = changed(record, "tasks", to={"harmful": record.tasks["harmful"], "primary": primary})
    record = changed(record, "budget", "finished", to=tuple(ATTACKERS)[:-1])
    page = undrawn_page(record)
    assert "The price to the benign task." in page.text
    assert "The run was interrupted before line_search and newton had finished" in page.text
    assert any("primary task" in alt and "adam" in alt for alt in page.attributes("alt")), "no line search there"
    part = attack_part(record)
    assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")


def test_only_the_undefended_extractor_claims_nothing():
    record = without(attack_record(), *EXTRACTORS[1:])
    page = undrawn_page(record)
    assert "there is nothing to claim" in page.text
    assert attack_part(record).headline == "Only the undefended extractor was attacked."
    assert "RFD" not in page.text
    part = attack_part(record)
    assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")


def test_prices_stand_in_a_table_and_in_words():
    record = attack_record()
    slow = record.tasks["primary"]["pencil"]["adam"]._replace(steps=(math.inf,) * 3)
    slowest = {name: o._replace(steps=slow.steps) for name, o in record.tasks["primary"]["pencil"].items()}
    page = undrawn_page(changed(record, "tasks", "primary", "pencil", to=slowest))
    assert row_of(page, "pencil", "2.061e-09")[5] == "never"
    assert "the primary task no longer gets half way" in page.text
    assert row_of(page, "pencil_no_slower", "2.061e-09")[5] == "1x"
    alone = changed(record, "tasks", to={"harmful": record.tasks["harmful"]})
    page = undrawn_page(alone)
    assert "No other task was attacked." in page.text
    assert "The price to the primary and benign task." in page.text
    assert cost_text("pencil", []) == ""


def test_definition_3_1_and_groups_of_every_extractor_are_there_to_unfold():
    record = network_attack_record()
    page = undrawn_page(record)
    assert "pencil (map), training rows: (a) yes: harder. (b) yes: as easy. (c) yes: kept." in page.alone
    assert "pencil_no_slower (blocks), held-out rows:" in page.text
    mean = Mean(3.25, 0.5)
    groups = {"PseudoInverse": GroupedRatio(mean, mean, mean, 20, 36, "a warning")}
    page = undrawn_page(changed(record, "extractors", "pencil", "measures", "groups", to=groups))
    assert page.alone.count("3.25 (0.5)") == 3
    assert "20 groups of 36 training rows (Eq. 17)" in page.text
    assert "Warning: a warning." in page.alone


def test_a_network_says_what_the_primary_task_lost_and_what_features_are_of():
    page = undrawn_page(network_attack_record())
    assert row_of(page, "training", "0.7500")[:5] == ["training", "0.7500", "0.5000", "2.0e-05", "yes"]
    skipped = "; 2 could not be decoded and were skipped (a.png: no image; 1 more)"
    assert f"36 images of 3 classes, 3 views of each{skipped}" in page.alone
    assert f"36 images of 3 classes{skipped}" in page.alone
    assert "errors, over those of guessing" in page.text
    assert "zero probe" not in page.text
    lost = changed(network_attack_record(), "extractors", "pencil", "kept", "train", "unchanged", to=False)
    assert "NO" in undrawn_page(lost).alone


def test_every_figure_says_in_words_what_it_shows():
    record = attack_record()
    curve = record.tasks["harmful"]["pencil"]["line_search"].curve.copy()
    curve[-1] = 0.0625
    record = with_outcome(record, "pencil", "line_search", curve=curve)
    best = record.best_so_far["pencil"]["gradient"].copy()
    best[-1] = 0.03125
    alts = undrawn_page(changed(record, "best_so_far", "pencil", "gradient", to=best)).attributes("alt")
    # The summary's, what attackers get, three tasks, held-out rows, trials, the map of all attackers.
    assert len(alts) == 1 + 1 + 3 + 1 + 1 + 1
    assert alts[0] == alts[1]
    assert "pencil 95\N{NO-BREAK SPACE}%, following gradients 94.2\N{NO-BREAK SPACE}%" in alts[0]
    assert "pencil 0.062" in alts[2]
    assert "pencil 0.031" in alts[6]
    assert "4 attackers leave of undefended, pencil, pencil_no_slower" in alts[7]


def test_attackers_without_a_follower_of_gradients_are_shown():
    record = attack_record()
    tasks = {
        task: {e: {"newton": of["newton"]} for e, of in by_extractor.items()}
        for task, by_extractor in record.tasks.items()
    }
    record = changed(record, "tasks", to=tasks)
    record = changed(record, "best_so_far", to={e: {"all": of["all"]} for e, of in record.best_so_far.items()})
    page = undrawn_page(record)
    assert any("trials of attackers" in alt for alt in page.attributes("alt"))
    assert "gradient followers:" not in page.text
    part = attack_part(record)
    assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")
