"""Legends stand below what is drawn, in every picture that there is, and a map's colours tell its values apart."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure as Drawing
from sample_records import (
    attack_record,
    changed,
    diagnose_record,
    ladder_record,
)

from benchmarks import _pictures
from cimm_jax.views.blocks import Figure
from cimm_jax.views.draw.attacks import LEVELS, draw_left_map, short_number
from cimm_jax.views.draw.heatmap import _luminance
from cimm_jax.views.draw.scheme import DARK, LIGHT
from cimm_jax.views.registry import part_of
from cimm_jax.views.render import picture
from experiments import alignment, figure1, figure3

TASKS = ("harmful", "primary")
RECORDS = (attack_record(), diagnose_record(), ladder_record())


@pytest.fixture
def drawings(monkeypatch):
    """Every drawing that becomes a PNG or an SVG, laid out."""
    made = []

    def keep(drawing, *_, **__):
        drawing.draw_without_rendering()
        made.append(drawing)
        return b""

    for module in (picture, alignment, figure1, figure3, _pictures):
        monkeypatch.setattr(module, "png_bytes", keep)
    monkeypatch.setattr(Drawing, "savefig", keep)
    return made


def legends(drawing):
    """Those of a drawing and of the panels in it, each with the axes that it is about."""
    for panel in (drawing, *drawing.subfigs):
        yield from ((legend, panel.axes) for legend in panel.legends)


def check(drawing):
    assert not any(axes.get_legend() for axes in drawing.axes), "a legend inside axes can hide what is drawn there"
    for legend, every in legends(drawing):
        box = legend.get_window_extent()
        assert box.width > 0
        assert len(legend.texts) == len({text.get_text() for text in legend.texts})
        for axes in every:
            assert not box.overlaps(axes.get_tightbbox()), "ticks and labels are not hidden either"
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= drawing.bbox.x1 + 0.5, "no name is cut at the edge"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.manifest.command)
def test_no_legend_of_a_run_hides_anything(drawings, record):
    part = part_of(record)
    picture.png_of(part.figures, title=part.title)
    for drawing in drawings:
        check(drawing)
    shown = [figure.legend for figure in part.figures]
    assert sum(1 for _ in legends(drawings[0])) == sum(shown)


def test_nor_on_a_page(drawings):
    picture.data_uris(part_of(diagnose_record()).figures[0])
    assert len(drawings) == 2
    for drawing in drawings:
        check(drawing)


def test_no_legend_of_an_experiment_or_a_benchmark_hides_anything(drawings):
    curve = np.geomspace(1, 1e-9, 12).reshape(2, 6)
    methods = {"undefended": curve, "algorithm1": curve / 2, "pencil": curve / 3}
    by_task = {task: {method: dict.fromkeys(figure1.MEASURES, of) for method, of in methods.items()} for task in TASKS}
    figure1._picture({"House": by_task}, range(1, 7))
    known = {group: {"alignment": curve[0], "limit": curve[0]} for group in ("mnist", "house")}
    alignment._picture(known, {group: {"algorithm1": curve[0], "pencil": curve[0]} for group in known})
    curves = {"harmful": dict.fromkeys(figure3.FOLLOWERS, methods) | {figure3.BEST: methods}, "primary": {}}
    figure3._picture({"resnet20": {"records": range(1, 7), "curves": curves}})
    _pictures.growth({"a": ([1, 2], [0.1, 0.2], 1.0), "b": ([1, 2], [0.1, 0.4], 2.0)}, x="rows", title="Growth")
    assert [[len(legend.texts) for legend in drawing.legends] for drawing in drawings] == [[3], [2], [3], [2]]
    for drawing in drawings:
        check(drawing)


def left_map(values, scheme=LIGHT):
    axes = Drawing().subplots()
    draw_left_map(axes, scheme, [str(row) for row in range(len(values))], ["a"], np.reshape(values, (-1, 1)), 1)
    (image,) = axes.get_images()
    return axes, [tuple(colour) for colour in image.to_rgba(image.get_array())[:, 0]]


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_half_broken_and_wholly_broken_have_colours_of_their_own(scheme):
    axes, colours = left_map([0.0, 5e-4, 5e-3, 0.05, 0.2, 0.4, 0.6, 0.8, 1.0], scheme)
    steps = np.diff([_luminance(colour[:3]) for colour in colours])
    assert (np.sign(steps) == np.sign(steps[0])).all(), "from paper to ink without a turn"
    assert (np.abs(np.diff(np.array(colours)[:, :3], axis=0)).max(1) > 0.05).all()
    assert len({text.get_text() for text in axes.texts}) == len(colours)


def test_what_is_outside_has_the_colour_of_the_nearest_end():
    _, (nothing, least, most, more) = left_map([0.0, -1e-9, 1.0, 1.2])
    assert nothing == least
    assert most == more


def test_a_colour_bar_has_a_tick_between_any_two_colours():
    axes, _ = left_map([0.0, 1.0])
    (bar,) = (other for other in axes.figure.axes if other is not axes)
    assert [text.get_text() for text in bar.get_xticklabels()] == [short_number(level) for level in LEVELS]
    assert len(set(map(short_number, LEVELS))) == len(LEVELS)


def test_numbers_fit_a_cell():
    assert max(len(short_number(value)) for value in np.geomspace(1e-12, 1, 200)) == 4
    assert all(
        short_number(one) != short_number(other) for one, other in itertools.pairwise((2e-6, 3e-5, 4e-4, 5e-3, 0.05))
    )


def test_the_map_of_an_attack_says_who_left_nothing_and_who_left_little():
    record = attack_record()
    outcome = record.tasks["harmful"]["pencil"]["adam"]
    record = changed(
        record, "tasks", "harmful", "pencil", "adam", to=outcome._replace(left=outcome.left._replace(estimate=4e-4))
    )
    figure: Figure = part_of(record).figures[-1]
    axes = Drawing().subplots()
    figure.draw(axes, LIGHT)
    assert "4e-4" in {text.get_text() for text in axes.texts}
