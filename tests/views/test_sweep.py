"""The paragraph says what the figures say."""

import jax
import numpy as np

from cimm_jax.closed_form.limits import Share
from cimm_jax.methods._sweep import Measured
from cimm_jax.measures.metrics import Conditions, ImmunizationRatio, Judgement
from cimm_jax.report.words import sweep_paragraph
from cimm_jax.numerics.spectra import Spectrum


def measured(train, heldout, harmful=1.0, primary=1.0):
    """Two pairs, three seeds; `train` and `heldout` say which pairs are immunized."""
    shape = (2, 3)
    spectrum = Spectrum(*[np.ones(shape)] * 5)
    ratio = ImmunizationRatio(np.ones(shape), np.full(shape, harmful), np.full(shape, primary), *[spectrum] * 4)

    def judged(pairs):
        held = np.repeat(np.array(pairs)[:, None], 3, axis=1)
        return Judgement(ratio, np.ones(shape), np.ones(shape), Conditions(held, held, held))

    return jax.tree.map(np.asarray, Measured(judged(train), judged(heldout), ratio, Share(*[np.full(shape, 0.36)] * 4)))


def test_protected_pairs_are_counted_on_both_parts():
    paragraph = sweep_paragraph({"ours": measured([True, True], [True, False])}, 2)
    assert "ours protected 2 of 2 pairs on the rows it saw and 1 on held-out rows" in paragraph


def test_shares_of_the_limit_are_said():
    assert "ours reaches 36%" in sweep_paragraph({"ours": measured([True, True], [True, False])}, 2)


def test_a_method_that_protects_nothing_is_told_so():
    paragraph = sweep_paragraph({"theirs": measured([False, False], [False, False], harmful=20, primary=5)}, 2)
    assert "theirs protected none of the 2 pairs" in paragraph
    assert "that much harder on 2" in paragraph
    assert "primary task harder on 2" in paragraph
