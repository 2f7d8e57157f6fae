"""What a ladder looks at: whose rows the attackers have."""

import pytest
from data.feature_examples import Y, write_npz

from cimm_jax.runs.feature_subject import FeatureSubject
from cimm_jax.runs.ladder_scene import open_scene
from cimm_jax.runs.source import FeatureSource


@pytest.mark.parametrize(("reserved", "rows"), [(0.0, (9, 9)), (0.5, (6, 9))])
def test_attackers_may_have_the_defences_rows_beside_their_own(tmp_path, reserved, rows):
    primary, harmful = write_npz(tmp_path / "p.npz", y=Y > 0), write_npz(tmp_path / "h.npz")
    subject = FeatureSubject(FeatureSource(primary, harmful, reserved=reserved))
    own, all_of_them = (open_scene(subject, (), judged=6, seed=0, with_defences_images=has) for has in (False, True))
    assert (len(own.labels), len(all_of_them.labels)) == rows
    assert (own.own_images, all_of_them.own_images) == (reserved > 0, False)
    assert own.checksums["judged"] == all_of_them.checksums["judged"]
