import pytest
from matplotlib.figure import Figure as Drawing

from cimm_jax.commands import delivery
from cimm_jax.views.draw.scheme import LIGHT


@pytest.fixture(scope="module", autouse=True)
def pictures_of_nothing():
    """Pictures are drawn, but neither laid out nor coloured, which takes seconds; tests/views does both for every command."""

    def drawn_only(figures, *, title):
        assert title
        for figure in figures:
            figure.draw(Drawing().subplots(), LIGHT)
        return b"\x89PNG"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "png_of", drawn_only)
        yield
