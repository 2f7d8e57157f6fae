"""Heat maps and history plots: what is drawn, and what is refused."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from cimm_jax import InputError
from cimm_jax.methods import Info
from cimm_jax.report.heatmap import heatmap_grid
from cimm_jax.report.history import history_plot


def values():
    table = np.random.default_rng(0).normal(0, 3, (10, 10))
    np.fill_diagonal(table, np.nan)
    return table


def picture(content):
    return imread(io.BytesIO(content))[..., :3]


def test_more_panels_make_a_larger_picture():
    shapes = [
        picture(heatmap_grid({str(i): values() for i in range(count)}, colour_label="log RIR")).shape
        for count in (1, 2, 3)
    ]
    assert shapes[0][1] < shapes[1][1]
    assert shapes[1][0] < shapes[2][0]


def test_the_sign_decides_the_colour():
    protected = picture(heatmap_grid({"a": np.full((10, 10), 3.0)}, colour_label="log RIR"))
    exposed = picture(heatmap_grid({"a": np.full((10, 10), -3.0)}, colour_label="log RIR"))
    left = slice(100, 300), slice(100, 300)
    assert protected[left][..., 2].mean() > protected[left][..., 0].mean(), "blue"
    assert exposed[left][..., 0].mean() > exposed[left][..., 2].mean(), "red"


@pytest.mark.parametrize("panels", [{}, {"a": np.zeros((9, 10))}, {"a": np.full((10, 10), np.nan)}])
def test_bad_panels_are_named(panels):
    with pytest.raises(InputError, match="panels"):
        heatmap_grid(panels, colour_label="log RIR")


def test_history_plot_draws_both_condition_numbers():
    steps = np.arange(1.0, 30)
    content = history_plot(Info(1 / steps, 10 * steps, 100 * steps, steps > 99), title="a run")
    drawn = picture(content)
    assert content.startswith(b"\x89PNG")
    for colour in ("#b23a48", "#2a7f62"):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(drawn - rgb).max(-1) < 0.02).sum() > 50, colour
