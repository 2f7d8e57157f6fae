"""What a command leaves behind: its picture as people see it, which other tests of commands do without."""

import io

import pytest
from matplotlib.image import imread
from sample_records import diagnose_record

from cimm_jax.commands.delivery import deliver
from cimm_jax.views.render.picture import WIDEST


@pytest.fixture(scope="module", autouse=True)
def pictures():
    """Drawn whole."""


def test_the_picture_is_that_of_all_figures(tmp_path, capsys):
    part = deliver(tmp_path, diagnose_record(), json=False)
    drawn = imread(io.BytesIO((tmp_path / "diagnose.png").read_bytes()))[..., :3]
    assert drawn.std() > 0.05
    assert drawn.shape[1] >= 480 * min(WIDEST, len(part.figures)), "a panel of each stands beside the others"
    assert f"Picture: {tmp_path / 'diagnose.png'}" in capsys.readouterr().out
