"""Heat maps: each value in its own cell, blanks left blank, one honest scale, readable numbers."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from cimm_jax import InputError
from cimm_jax.views.draw.heatmap import _contrast, heatmap_grid
from cimm_jax.views.render.picture import png_bytes


def table(scale=1.0):
    """Values that differ in every cell and are not symmetric, so that a transposed map shows."""
    values = scale * (np.arange(100.0).reshape(10, 10) - 40) / 10
    np.fill_diagonal(values, np.nan)
    return values


def grid(panels):
    return heatmap_grid(panels, colour_label="log RIR")


def picture(panels):
    return imread(io.BytesIO(png_bytes(grid(panels))))[..., :3]


def panels_of(figure):
    return [axes for axes in figure.axes if axes.get_images() and axes.get_visible()]


def written(axes):
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text for text in axes.texts}


def test_rows_are_harmful_digits_and_columns_primary_ones():
    values = table()
    (axes,) = panels_of(grid({"a": values}))
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("harmful digit", "primary digit")
    assert axes.yaxis_inverted(), "row 0 is on top"
    drawn = np.ma.filled(axes.get_images()[0].get_array(), np.nan)
    np.testing.assert_array_equal(drawn, values)
    texts = written(axes)
    assert {cell: float(text.get_text()) for cell, text in texts.items()} == {
        (i, j): round(values[i, j], 1) for i in range(10) for j in range(10) if i != j
    }


def test_the_diagonal_is_blank():
    (axes,) = panels_of(grid({"a": table()}))
    assert not any(row == column for row, column in written(axes))
    assert np.ma.getmaskarray(np.ma.masked_invalid(axes.get_images()[0].get_array())).diagonal().all()


def test_infinite_values_are_shown_and_do_not_stretch_the_scale():
    values = table()
    values[0, 1], values[1, 0] = np.inf, -np.inf
    (axes,) = panels_of(grid({"a": values}))
    image, texts = axes.get_images()[0], written(axes)
    assert (texts[0, 1].get_text(), texts[1, 0].get_text()) == ("inf", "-inf")
    assert image.norm.vmax == np.nanmax(values[np.isfinite(values)])
    assert (image.get_array()[0, 1], image.get_array()[1, 0]) == (image.norm.vmax, image.norm.vmin)


def test_zero_has_no_sign():
    values = table()
    values[2, 3] = -0.04
    (axes,) = panels_of(grid({"a": values}))
    assert written(axes)[2, 3].get_text() == "0.0"


def test_panels_share_a_scale_centred_at_zero_and_spare_axes_are_hidden():
    figure = grid({"small": table(), "large": table(3), "third": table()})
    norms = [axes.get_images()[0].norm for axes in panels_of(figure)]
    assert len(norms) == 3
    assert all(norm(0.0) == 0.5 and norm.vmax == pytest.approx(3 * 5.8) for norm in norms)
    assert len([axes for axes in figure.axes if axes.get_visible()]) == 4, "three panels and the colour bar"


def test_every_number_can_be_read():
    (axes,) = panels_of(grid({"a": table()}))
    image, texts = axes.get_images()[0], written(axes)
    for cell, text in texts.items():
        assert _contrast(text.get_color(), image.to_rgba(image.get_array()[cell])) > 4, text.get_text()


def test_contrast_is_that_of_wcag():
    assert _contrast("white", "black") == pytest.approx(21)
    assert _contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)


def test_it_is_a_png_of_a_readable_size():
    content = png_bytes(grid({"a": table()}))
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(content[start : start + 4], "big") for start in (16, 20))
    assert width >= 500
    assert height >= 400


def test_more_panels_make_a_larger_picture():
    shapes = [picture({str(number): table() for number in range(count)}).shape for count in (1, 2, 3)]
    assert shapes[0][1] < shapes[1][1]
    assert shapes[1][0] < shapes[2][0]


def test_the_sign_decides_the_colour():
    protected, exposed = (picture({"a": np.full((10, 10), value)}) for value in (3.0, -3.0))
    left = slice(100, 300), slice(100, 300)
    assert protected[left][..., 2].mean() > protected[left][..., 0].mean(), "blue"
    assert exposed[left][..., 0].mean() > exposed[left][..., 2].mean(), "red"


@pytest.mark.parametrize("panels", [{}, {"a": np.zeros((9, 10))}, {"a": np.full((10, 10), np.nan)}])
def test_bad_panels_are_named(panels):
    with pytest.raises(InputError, match="panels"):
        grid(panels)
