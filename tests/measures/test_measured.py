"""Everything that is measured, in one place: each part is what its own measure says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from measures.extracted import THETA, forgotten
from pairs import D, make_pair

from cimm_jax import definition_3_1, extract
from cimm_jax.closed_form.limits import share_of_pair
from cimm_jax.measures.bootstrap import bootstrap_ratio
from cimm_jax.measures.measured import measure
from cimm_jax.measures.ratios import ratios_by_policy


@pytest.fixture(scope="module")
def extractions():
    return {"train": extract(THETA, make_pair(0, rows=60)), "heldout": extract(THETA, make_pair(1, rows=45))}


def test_every_part_is_measured_on_its_own_rows(extractions):
    found = measure(extractions, seed=0)
    assert list(found.parts) == ["train", "heldout"]
    assert found.groups is None
    for part, measured in found.parts.items():
        extraction = extractions[part]
        assert {name: r.rir for name, r in measured.ratios.items()} == {
            name: r.rir for name, r in ratios_by_policy(extraction).items()
        }
        assert measured.share.log_rir == share_of_pair(THETA, extraction.before).log_rir
        assert measured.intervals is None
        assert measured.excess.harmful.horizon == 1000
        assert measured.verdict == definition_3_1(extraction, fit_on=extractions["train"])
    assert found.parts["heldout"].verdict != definition_3_1(extractions["heldout"]), "its probes are fitted elsewhere"


def test_features_without_a_map_have_no_share_of_the_limit(extractions):
    found = measure({"train": forgotten(extractions["train"])}, seed=0, with_curves=False)
    assert found.parts["train"].share is None
    assert found.parts["train"].ratios


def test_intervals_are_made_where_they_are_asked_for(extractions):
    found = measure(
        extractions, seed=5, resamples=lambda extraction: 20 if len(extraction.before.primary.x) == 45 else None
    )
    assert found.parts["train"].intervals is None
    assert found.parts["heldout"].intervals == bootstrap_ratio(jax.random.key(5), extractions["heldout"], resamples=20)


def test_groups_are_of_training_rows_and_the_seed_decides():
    extractions = {"train": extract(jnp.eye(D), make_pair(rows=30))._replace(after=make_pair(2, rows=30))}
    found, again, other = (
        measure(extractions, seed=seed, in_groups=True, with_curves=False).groups for seed in (0, 0, 1)
    )
    assert found["PseudoInverse"].rows == 30
    assert found == again
    np.testing.assert_allclose(other["PseudoInverse"].rir.mean, found["PseudoInverse"].rir.mean, rtol=1e-6)


def test_curves_can_be_left_out_or_taken_away(extractions):
    found = measure(extractions, seed=0)
    bare = found.without_curves()
    assert all(part.excess is None for part in bare.parts.values())
    assert bare.parts["train"].verdict == found.parts["train"].verdict
    assert found.parts["train"].excess is not None
    assert all(part.excess is None for part in measure(extractions, seed=0, with_curves=False).parts.values())
