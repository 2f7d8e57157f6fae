"""Pictures of parts: one PNG of all panels, two drawings of each figure, and what is drawn in them."""

import base64
import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Drawing
from matplotlib.image import imread
from sample_records import (
    attack_record,
    changed,
    diagnose_record,
    immunize_record,
    one_of_each_command,
    trained_blocks_record,
)

from cimm_jax.views.blocks import NARROW, TALL, Figure
from cimm_jax.views.draw.names import LONGEST_NAME, drawn_name
from cimm_jax.views.draw.scheme import DARK, LIGHT
from cimm_jax.views.registry import part_of
from cimm_jax.views.render.picture import data_uris, png_of


def picture(figures):
    return imread(io.BytesIO(png_of(figures, title="a run")))[..., :3]


def pixels_of(drawn, colour):
    return int((np.abs(drawn - to_rgb(colour)).max(-1) < 0.02).sum())


def axes_of(figure, scheme=LIGHT):
    axes = Drawing().subplots()
    figure.draw(axes, scheme)
    return axes


def plain(draw=lambda axes, scheme: axes.plot([1, 2], label="a line"), **given):
    return Figure(draw, alt="A line.", caption="A line.", **given)


@pytest.mark.parametrize("record", one_of_each_command(), ids=lambda record: record.manifest.command)
def test_every_command_has_a_picture_with_something_to_see(record):
    part = part_of(record)
    drawn = picture(part.figures)
    assert drawn.std() > 0.05
    assert all(figure.alt and figure.caption for figure in part.figures)


def test_panels_stand_four_side_by_side_and_then_below():
    shapes = [picture([plain()] * count).shape for count in (1, 2, 4, 5)]
    heights, widths = zip(*(shape[:2] for shape in shapes), strict=True)
    assert widths[0] < widths[1] < widths[2] == widths[3]
    assert heights[0] == heights[1] == heights[2] < heights[3]


@pytest.mark.parametrize("record", [immunize_record(), trained_blocks_record()], ids=["map", "blocks"])
def test_a_course_is_drawn_with_both_condition_numbers_and_the_loss(record):
    figures = part_of(record).figures
    course, loss = figures[-2:]
    assert "Condition numbers" in course.caption
    lines = {line.get_label(): line for line in axes_of(course).lines}
    history = record.history
    np.testing.assert_array_equal(lines["harmful task"].get_ydata(), history.kappa_harmful)
    np.testing.assert_array_equal(lines["primary task"].get_ydata(), history.kappa_primary)
    np.testing.assert_array_equal(lines["harmful task"].get_xdata(), history.kappa_steps)
    np.testing.assert_array_equal(axes_of(loss).lines[0].get_ydata(), history.loss)
    drawn = picture([course])
    assert all(pixels_of(drawn, LIGHT.tasks[task]) > 50 for task in ("primary", "harmful"))


def test_a_course_without_a_finite_loss_is_drawn_without_it():
    record = immunize_record()
    record = changed(record, "history", "loss", to=np.full(4, np.nan))
    assert len(part_of(record).figures) == len(part_of(immunize_record()).figures) - 1


def test_the_legend_of_a_panel_is_that_of_both_of_its_scales(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "matplotlib.figure.SubFigure.legend", lambda panel, handles, labels, **style: shown.append(labels)
    )
    figures = part_of(diagnose_record()).figures
    png_of([*figures[:1], plain()], title="a run")
    assert shown == [["mu", "harmful labels", "primary labels"], ["a line"]]


def test_excess_loss_is_drawn_on_a_scale_of_decades_undefended_dashed():
    figure = part_of(immunize_record()).figures[0]
    axes = axes_of(figure)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    styles = {line.get_label(): line.get_linestyle() for line in axes.lines}
    assert styles == {
        "primary undefended": "--",
        "primary immunized": "-",
        "harmful undefended": "--",
        "harmful immunized": "-",
    }


def test_an_attack_is_drawn_whoever_diverged_and_without_line_search():
    record = attack_record()
    outcome = record.tasks["harmful"]["pencil"]["adam"]
    nothing = outcome.left._replace(estimate=np.nan, low=np.nan, high=np.nan)
    diverged = outcome._replace(left=nothing, heldout_left=nothing, curve=outcome.curve * np.nan)
    record = changed(record, "tasks", "harmful", "pencil", "adam", to=diverged)
    without = {
        task: {e: {n: o for n, o in of.items() if n != "line_search"} for e, of in by_extractor.items()}
        for task, by_extractor in record.tasks.items()
    }
    for shown in (record, changed(record, "tasks", to=without)):
        part = part_of(shown)
        assert png_of(part.figures, title=part.title).startswith(b"\x89PNG")
    who = {line.get_label() for line in axes_of(part.figures[1]).lines}
    assert who == {"undefended", "pencil", "pencil_no_slower"}
    assert "adam" in part.figures[1].caption


def test_a_figure_is_drawn_twice_light_and_dark():
    uris = data_uris(plain(size=(2.0, 1.0)))
    light, dark = (base64.b64decode(uri.partition(",")[2]).decode() for uri in uris)
    assert all(uri.startswith("data:image/svg+xml;base64,") for uri in uris)
    assert LIGHT.ink in light
    assert DARK.ink not in light
    assert DARK.ink in dark
    assert LIGHT.ink not in dark
    assert 'width="144pt" height="72pt"' in light
    assert data_uris(plain(size=(2.0, 1.0))) == uris, "the same bytes again"


def test_a_figure_fits_a_phone_unless_it_says_otherwise():
    assert (plain().size, NARROW * 96 < 390) == ((NARROW, TALL), True)


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("a\nb  c", "a b c"),
        ("_hidden", " _hidden"),
        ("$x$", r"\$x\$"),
        ("n" * 40, "n" * 21 + "…" + "n" * 10),
    ],
)
def test_names_are_drawn_on_one_line_without_mathematics(name, drawn):
    assert drawn_name(name) == drawn
    assert len(drawn_name("n" * 99)) == LONGEST_NAME
