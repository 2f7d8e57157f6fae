"""The part of a ladder: the picture first, then what each defence stops, rung by rung, where it leaks, what is left open."""

import base64
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing
from pages import Page, page_and_card, undrawn_page
from sample_records import (
    CLIMBED,
    LADDER,
    attack_record,
    changed,
    data_ladder_record,
    diagnose_record,
    ladder_record,
    renamed,
    with_word,
)

from cimm_jax.attacks.ladder.by_rung import FAILS, HOLDS, NOTHING, RANDOM_WEIGHTS, WEAKENS
from cimm_jax.attacks.ladder.rungs import FINE_TUNING, LAYERS, RUNGS
from cimm_jax.attacks.protocol import UNDEFENDED
from cimm_jax.runs.records import LadderRecord
from cimm_jax.views.draw.scheme import DARK, LIGHT
from cimm_jax.views.ladder import claims_of, headline, ladder_part, not_measured
from cimm_jax.views.ladder_figures import course_figures, layers_figure, layers_text, rung_figures
from cimm_jax.views.ladder_tables import best_by, places
from cimm_jax.views.render.picture import data_uris, png_of

NAMES = list(CLIMBED)


def axes_of(figure, scheme=LIGHT):
    axes = Drawing().subplots()
    figure.draw(axes, scheme)
    return axes


def lines_of(figure) -> dict:
    return {line.get_label(): line for line in axes_of(figure).lines}


def row_of(page, *cells) -> list[str]:
    """The cells of the first row that begins with these."""
    place = next(at for at in range(len(page.alone)) if page.alone[at : at + len(cells)] == list(cells))
    return page.alone[place : place + 20]


def alone_against(record: LadderRecord, defence: str) -> LadderRecord:
    """The same with one defence."""
    return changed(record, "rungs", to={defence: record.rungs[defence]})


def undefended_alone(record: LadderRecord) -> LadderRecord:
    record = changed(record, "rungs", to={})
    record = changed(record, "networks", to={name: of for name, of in record.networks.items() if name == UNDEFENDED})
    return changed(record, "tried", to=tuple(one for one in record.tried if one.network == UNDEFENDED))


def test_the_picture_comes_first_and_what_is_not_known_before_everything_that_is_folded():
    sections = ladder_part(ladder_record()).sections
    assert [section.title for section in sections if not section.folded] == [
        *("What attackers get", "Verdict", "What each defence stops", "Claims", "Tasks", "Rung by rung"),
        *("Steps, images and trials", "The primary task under attack", "Which layer leaks", "The output floor"),
        *("Not measured", "Time and memory"),
    ]
    assert [section.title for section in sections if section.folded] == [
        *("How quickly they get it", "Every attacker tried", "Manifest", "SHA-256 of the data", "All settings"),
    ]
    titles = [section.title for section in ladder_part(data_ladder_record()).sections]
    assert "Rungs that do not exist here" in titles
    assert not {"The primary task under attack", "Which layer leaks", "The output floor"} & set(titles)


def test_one_picture_a_budget_says_rung_by_rung_what_the_best_gets():
    few, everything = rung_figures(ladder_record())
    assert few.caption.startswith("What attackers get with 20 images a class,")
    assert everything.caption.startswith("What attackers get with all 400 images, about 133 a class,")
    told = everything.alt.replace("\N{NO-BREAK SPACE}", " ")
    assert "gradients: undefended 85 %, pencil 45 %, algorithm1 44 %, random weights 42 %; linear: undefended" in told
    assert "fine-tuning: undefended 95 %, pencil 94 %, algorithm1 93 %, random weights 75 %; guessing 35 %." in told
    assert "linear: undefended 77 %" in few.alt.replace("\N{NO-BREAK SPACE}", " ")


def test_rungs_stand_across_with_intervals_random_weights_as_bars_and_guessing_as_a_thin_line():
    record = ladder_record()
    axes = axes_of(rung_figures(record)[1])
    assert [label.get_text() for label in axes.get_xticklabels()] == [rung.name for rung in RUNGS]
    lines = {line.get_label(): line for line in axes.lines}
    for number, name in enumerate(("undefended", "pencil", "algorithm1")):
        np.testing.assert_allclose(lines[name].get_ydata(), CLIMBED[name])
        np.testing.assert_allclose(np.diff(lines[name].get_xdata()), 1)
        assert lines[name].get_linestyle() == ("-" if number else "--")
    assert RANDOM_WEIGHTS not in lines
    assert "Bars are what the same attackers get of random weights" in undrawn_page(record).text
    assert "Bars are what" not in undrawn_page(data_ladder_record()).text
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], CLIMBED[RANDOM_WEIGHTS])
    assert set(lines["guessing"].get_ydata()) == {0.35}
    assert lines["guessing"].get_linewidth() < 1 < lines["pencil"].get_linewidth()
    interval = record.rungs["pencil"][0].budgets[1].defended.accuracy
    ends = [tuple(segment[:, 1]) for bars in axes.collections for segment in bars.get_segments()]
    assert any(np.allclose(end, (interval.low, interval.high)) for end in ends)
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] >= 1
    assert sorted(axes.get_legend_handles_labels()[1]) == sorted([*NAMES, "guessing"])


def test_networks_do_not_hide_one_another():
    lines = lines_of(rung_figures(ladder_record())[0])
    firsts = [lines[name].get_xdata()[0] for name in ("undefended", "pencil", "algorithm1")]
    assert len(set(firsts)) == 3
    assert max(firsts) - min(firsts) < 0.8, "nearer to their own rung than to the next"
    alone = lines_of(rung_figures(undefended_alone(ladder_record()))[0])
    np.testing.assert_array_equal(alone["undefended"].get_xdata(), range(5))


def test_a_rung_that_nobody_climbed_leaves_no_gap_and_one_network_that_did_not_leaves_one():
    assert [label.get_text() for label in axes_of(rung_figures(data_ladder_record())[0]).get_xticklabels()] == [
        *("gradients", "linear", "nonlinear")
    ]
    record = ladder_record()
    tried = tuple(one for one in record.tried if (one.rung, one.network) != (FINE_TUNING, RANDOM_WEIGHTS))
    record = changed(record, "tried", to=tried)
    figure = rung_figures(record)[0]
    assert figure.alt.endswith("random weights -; guessing 35\N{NO-BREAK SPACE}%.")
    assert png_of([figure], title="a run").startswith(b"\x89PNG")


def test_all_pictures_are_drawn_in_light_and_dark():
    record = ladder_record()
    for figure in (rung_figures(record)[0], *course_figures(record)[:2], *layers_figure(record)):
        light, dark = (base64.b64decode(uri.partition(",")[2]).decode() for uri in data_uris(figure))
        assert LIGHT.ink in light
        assert LIGHT.ink not in dark
        assert DARK.ink in dark


@pytest.mark.parametrize("record", [ladder_record(), data_ladder_record()], ids=["network", "data"])
def test_long_names_and_numbers_that_are_none_are_drawn(record):
    record = renamed(renamed(record, "pencil", "runs/of $a^method/with_a_long_name/" * 4), "algorithm1", "_hidden")
    nothing = replace(record.tried[0], by_seed=(math.nan,), curve=(math.nan,) * 5)
    record = changed(record, "tried", 0, to=nothing)
    part = ladder_part(record)
    assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")
    assert "- (undefended" not in part.headline


def test_courses_against_images_trials_and_steps():
    images, trials, *steps = course_figures(ladder_record())
    assert list(lines_of(images)["pencil"].get_xdata()) == [60, 400]
    np.testing.assert_allclose(lines_of(images)["pencil"].get_ydata(), [0.84, 0.94])
    found = ladder_record().rungs["pencil"][-1].budgets[-1]
    np.testing.assert_allclose(lines_of(trials)["pencil"].get_ydata(), found.trials)
    np.testing.assert_allclose(lines_of(trials)["undefended"].get_ydata(), found.undefended_trials)
    assert RANDOM_WEIGHTS not in lines_of(trials)
    told = [figure.caption.split(", ")[:2] for figure in steps]
    assert told == [["Best against steps", rung] for rung in ("gradients", "nonlinear", "fine-tuning")]
    assert "all weights at all layers" in steps[-1].caption, "it makes steps, adapters were judged once"
    assert lines_of(steps[0])[RANDOM_WEIGHTS].get_linestyle() == ":"
    dark = {line.get_label(): line for line in axes_of(steps[0], DARK).lines}
    assert dark[RANDOM_WEIGHTS].get_color() == DARK.ink
    assert lines_of(steps[0])["pencil"].get_ydata()[-1] == pytest.approx(0.45)
    assert "pencil 22.5" in steps[0].alt


def test_a_course_that_falls_keeps_what_was_reached():
    record = ladder_record()
    place = next(at for at, one in enumerate(record.tried) if (one.network, one.images, one.rung) == ("pencil", 400, 0))
    record = changed(record, "tried", place, "curve", to=(0.1, 0.45, 0.2, 0.2, 0.2))
    _, _, figure, *_ = course_figures(record)
    np.testing.assert_array_equal(lines_of(figure)["pencil"].get_ydata(), [0.1, 0.45, 0.45, 0.45, 0.45])
    before = changed(record, "tried", place, "steps", to=(0, 2, 5, 10, 20))
    assert axes_of(course_figures(before)[2]).get_xscale() == "symlog", "no step is no logarithm"
    assert axes_of(figure).get_xscale() == "log"


def test_best_attackers_that_differ_are_told_by_network():
    record = ladder_record()
    place = next(at for at, one in enumerate(record.tried) if (one.network, one.images, one.rung) == ("pencil", 400, 0))
    figure = course_figures(changed(record, "tried", place, "attacker", to="momentum"))[2]
    assert "undefended adam at features; pencil momentum at features;" in figure.caption


def test_which_layer_leaks_most_before_and_after():
    record = ladder_record()
    assert places(record) == ["layer2.0", "layer2.0 + layer3.0"]
    place = next(
        at
        for at, one in enumerate(record.tried)
        if (one.network, one.images, one.place) == ("algorithm1", 400, "layer2.0 + layer3.0")
    )
    record = changed(record, "tried", place, "by_seed", to=(0.625, 0.625))
    told = layers_text(record).replace("\N{NO-BREAK SPACE}", " ")
    assert told.startswith("The cut that leaks most: undefended layer2.0, 91 %; pencil layer2.0, 90 %;")
    assert "algorithm1 layer2.0 + layer3.0, 62.5 %" in told
    (figure,) = layers_figure(record)
    assert [label.get_text() for label in axes_of(figure).get_yticklabels()] == places(record)
    np.testing.assert_allclose(lines_of(figure)["algorithm1"].get_xdata(), [0.5, 0.625])
    assert lines_of(figure)["algorithm1"].get_ydata()[0] > lines_of(figure)["algorithm1"].get_ydata()[1]
    page = undrawn_page(record)
    assert any(re.fullmatch("62.5 %59.. % to 65.. %knn at 0.1, layer2.0 [+] layer3.0", text) for text in page.alone)
    assert layers_figure(data_ladder_record()) == []


def test_best_by_looks_at_one_network_budget_rung_and_place():
    record = ladder_record()
    assert best_by(record, "pencil", 400).accuracy.estimate == pytest.approx(0.94)
    assert best_by(record, "pencil", 60).accuracy.estimate == pytest.approx(0.84)
    assert best_by(record, "pencil", 400, rung=LAYERS).accuracy.estimate == pytest.approx(0.9)
    assert best_by(record, "pencil", 400, place="features").attacker == "mlp"
    assert best_by(record, "pencil", 7) is None
    assert best_by(record, "nobody", 400) is None


def test_rung_by_rung_both_budgets_stand_in_one_row_each():
    page = undrawn_page(ladder_record())
    row = row_of(page, "linear", "20 images a class")
    assert row[2:4] == ["weakens", "0.400.313 to 0.498"]
    assert row[4:7] == [
        "77 %74.1 % to 79.6 %ridge at 0.1, featuresseeds 75 % to 79 %",
        "60 %56.8 % to 63.2 %ridge at 0.1, featuresseeds 58 % to 62 %",
        "35 %32 % to 38.2 %ridge at 0.1, featuresseeds 33 % to 37 %",
    ]
    assert row[7] == "4.29 %"
    assert row[8] == "all 400 images, about 133 a class"
    without_floor = row_of(undrawn_page(data_ladder_record()), "linear", "20 images a class")
    assert without_floor[5:7] == ["60 %56.8 % to 63.2 %ridge at 0.1, featuresseeds 58 % to 62 %", "4.29 %"]


def test_nothing_to_remove_has_no_share():
    record = changed(ladder_record(), "rungs", "pencil", 0, "budgets", 0, "removed", to=None)
    assert row_of(undrawn_page(record), "gradients", "20 images a class")[3] == "-"


def test_steps_images_and_trials_are_counted_beside_undefended():
    record = ladder_record()
    record = changed(record, "rungs", "pencil", 0, "budgets", 0, "steps", to=(7.0, 70.0, math.inf))
    record = changed(record, "rungs", "pencil", 0, "images", to=(60.0, math.inf, math.inf))
    record = changed(record, "rungs", "pencil", 0, "budgets", 0, "trials", to=np.linspace(0.1, 0.2, 12))
    page = undrawn_page(record)
    shown = [row_of(page, "gradients", "20 images a class", "2 / 10 / 20"), row_of(page, "gradients", "60 / 60 / 400")]
    assert shown[0][3] == "7 / 70 / never"
    assert shown[1][2] == "60 / never / never"
    assert "10 % / 18.2 % / 20 %" in page.alone


def test_what_is_destroyed_on_the_way_and_who_keeps_it():
    page = undrawn_page(ladder_record())
    at = page.alone.index("destroyed")
    row = row_of(Page(f"<p>{'</p><p>'.join(page.alone[at:])}</p>"), "fine-tuning", "20 images a class")
    kept = "adapters of rank 4 at 0.1, all layersseeds 82 % to 86 %primary 74 %"
    assert row[2].endswith(kept)
    assert row[3] == "1 %"
    assert row[4].endswith(kept)
    record = changed(ladder_record(), "rungs", "pencil", 4, "budgets", 0, "destroyed", to=0.5)
    record = changed(record, "rungs", "pencil", 4, "budgets", 0, "keeping", to=None)
    page = undrawn_page(record)
    at = page.alone.index("destroyed")
    row = row_of(Page(f"<p>{'</p><p>'.join(page.alone[at:])}</p>"), "fine-tuning", "20 images a class")
    assert row[3:5] == ["50 %", "-"]


def test_what_the_outputs_give_away_is_what_no_defence_that_keeps_them_prevents():
    page = undrawn_page(ladder_record())
    assert [text for _, text in page.headers if text in ("features", "logits", "classes")] == [
        "features",
        "logits",
        "classes",
    ]
    assert "60 %56.8 % to 63.2 %ridge at 0.1, features" in page.alone
    assert "No defence that keeps an output can prevent what that output gives." in page.text
    assert "No defence that keeps an output" not in undrawn_page(data_ladder_record()).text
    diagnosed = undrawn_page(diagnose_record())
    assert ("row", "as published") in diagnosed.headers
    assert "60 %56.8 % to 63.2 %ridge at 0.1, features" in diagnosed.alone
    assert "No defence that keeps" not in undrawn_page(changed(diagnose_record(), "outputs", to={})).text


def test_everybody_tried_is_there_to_unfold():
    record = ladder_record()
    page = undrawn_page(record)
    for _, attacker, place in LADDER:
        assert page.headers.count(("row", f"{attacker}, {place}")) == 2, "once a budget"
    cell = (
        "44 %seeds 42 % to 46 %setting 0.01 to 1best at 0.1 of 2settings 24 % to 44 %1 to 20 steps: 22 % to 44 %50 % diverged"
        "1.5 s"
    )
    assert cell in page.alone
    once = replace(record.tried[0], settings=(1.0,), accuracy=(0.75,), by_seed=(0.75,), steps=(1,), curve=(0.75,))
    once = replace(once, diverged=0.0)
    assert "75 %1 steps: 75 %1.5 s" in undrawn_page(changed(record, "tried", 0, to=once)).alone
    assert "-" in undrawn_page(changed(record, "tried", to=record.tried[1:])).alone


def test_many_layers_together_are_told_by_their_number():
    layers = [f"layer{number}" for number in range(12)]
    record = renamed(ladder_record(), "layer2.0 + layer3.0", " + ".join(layers))
    page = undrawn_page(record)
    assert "12 layers, layer0 to layer11" in page.text
    assert " + ".join(layers) not in page.text


def test_rungs_that_do_not_exist_have_their_reasons():
    page = undrawn_page(data_ladder_record())
    assert "layers: there is no network" in page.alone
    assert "fine-tuning: there is no network" in page.alone
    for rung in RUNGS:
        assert (rung.who in page.text) == (rung.name not in data_ladder_record().absent)


def test_what_was_not_measured_is_named():
    text = " ".join(not_measured(ladder_record()))
    assert "more than 400 images, or more than 20 steps" in text
    assert "Attackers with images of their own" in text
    assert "at the edge of those tried for adam, ridge, mlp, knn, adapters of rank 4 and all weights" in text, (
        "1.0 was given up"
    )
    assert "there was one" not in text
    assert "tamper-proof" in text
    least = replace(data_ladder_record().tried[0], attacker="at the least", accuracy=(0.7, 0.5, 0.2))
    assert "those tried for at the least:" in " ".join(not_measured(replace(data_ladder_record(), tried=(least,))))
    inside = tuple(replace(one, accuracy=(0.1, 0.5, 0.2)) for one in data_ladder_record().tried)
    text = " ".join(not_measured(replace(data_ladder_record(), tried=inside, seeds=1)))
    assert "at the edge" not in text
    assert "images of their own" not in text
    assert "over seeds: there was one" in text


@pytest.mark.parametrize(
    ("words", "status", "label"),
    [
        ((HOLDS,) * 6, "good", "holds against all of these"),
        ((HOLDS, NOTHING, HOLDS, HOLDS, HOLDS, HOLDS), "warn", "holds where weights help"),
        ((HOLDS, WEAKENS, HOLDS, HOLDS, HOLDS, HOLDS), "warn", "hinders some only"),
        ((WEAKENS,) * 6, "warn", "hinders some only"),
        ((HOLDS, FAILS, FAILS, FAILS, FAILS, FAILS), "warn", "hinders some only"),
        ((FAILS,) * 6, "bad", "does not protect"),
        ((FAILS, NOTHING, NOTHING, NOTHING, FAILS, FAILS), "bad", "does not protect"),
        ((NOTHING,) * 6, "neutral", "nothing to protect"),
    ],
)
def test_the_weakest_rung_decides_the_colour(words, status, label):
    record = alone_against(ladder_record(), "pencil")
    for number, word in enumerate(words):
        record = with_word(record, "pencil", number, word)
    part = ladder_part(record)
    assert part.status == status
    chips = [tag["class"].split()[1] for _, tag in undrawn_page(record).tags if "chip" in tag.get("class", "")]
    assert chips == [status]
    assert label in undrawn_page(record).text


def test_a_network_that_nobody_fine_tuned_is_not_said_to_hold():
    record = alone_against(ladder_record(), "pencil")
    for number in range(6):
        record = with_word(record, "pencil", number, HOLDS)
    assert ladder_part(record).status == "good"
    absent = changed(record, "absent", to={"fine-tuning": "it was left out"})
    assert ladder_part(absent).status == "warn"
    assert "Not tried: fine-tuning." in ladder_part(absent).headline
    data = data_ladder_record()
    for number in range(4):
        data = with_word(data, "pencil", number, HOLDS)
    assert ladder_part(data).status == "good", "data have no layers and no weights"


def test_the_headline_names_one_defence_and_counts_several():
    record = ladder_record()
    assert headline(record) == (
        "Of 2 defences, 2 hinder some kinds of attackers only: all others learn the blocked task. Attackers "
        "have what the defender had, which flatters the defence."
    )
    for number in range(6):
        record = with_word(record, "algorithm1", number, FAILS)
    assert headline(record).startswith(
        "Of 2 defences, 1 does not protect: no kind of attacker that was run is stopped. 1 hinders some kinds of attackers "
        "only: all others"
    )
    assert ladder_part(record).status == "bad"
    assert headline(data_ladder_record()).startswith(
        "pencil hinders some kinds of attackers only: all others learn the blocked task. It holds"
    )


def test_claims_are_those_of_the_report_and_of_no_rung_that_fails():
    record = ladder_record()
    found = claims_of(record)
    assert [text.split(" (")[0] for text in found] == [
        "pencil holds against linear probes fitted by gradients",
        "pencil weakens linear probes by any means",
        "algorithm1 holds against linear probes fitted by gradients",
        "algorithm1 holds against linear probes by any means",
        "algorithm1 holds against nonlinear heads",
        "algorithm1 holds against heads on other layers",
    ]
    for number in range(6):
        record = with_word(with_word(record, "pencil", number, FAILS), "algorithm1", number, NOTHING)
    assert claims_of(record) == []


def test_only_the_undefended_network_claims_nothing():
    record = undefended_alone(ladder_record())
    part = ladder_part(record)
    assert (part.headline, part.status) == (
        "Only the undefended network was attacked: there is no defence to judge.",
        "neutral",
    )
    assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")
    assert claims_of(record) == []
    assert "flatters" not in part.headline


def test_memory_and_time_are_told():
    page = undrawn_page(ladder_record())
    assert "3 GiB" in page.alone
    assert f"{len(ladder_record().tried) * 1.5 / 60:.3g} minutes" in page.alone


@pytest.mark.slow
def test_beside_another_attack_the_ladder_comes_first_on_the_page_and_in_the_card():
    records = [attack_record(), ladder_record()]
    page = undrawn_page(*records)
    assert page.attributes("alt")[0] == rung_figures(ladder_record())[0].alt
    _, card = page_and_card(*records)
    assert card.index("with 20 images a class") < card.index("What attackers get of the harmful task")
    assert "- nonlinear: does not stop nonlinear heads (79 % right, undefended 80 %" in card
    assert "- gradients: holds (35 % right, undefended 75 %" in card
    assert "pipeline_tag: image-classification" in card


def test_the_command_is_what_people_type():
    page = undrawn_page(ladder_record())
    assert "cimm attack --ladder" in page.alone
    assert "cimm ladder" not in page.text
