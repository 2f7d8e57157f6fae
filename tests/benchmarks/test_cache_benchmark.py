"""The benchmark of the trunk cache: both ways train the same network, and bad input is refused."""

import sys

import jax
import numpy as np
import pytest
from networks.small_networks import NETWORK, filled

from benchmarks import cache
from cimm_jax.networks import functional


def test_both_ways_train_the_same_tail(tmp_path):
    model, cut = filled(NETWORK), "layer3.0"
    made = cache.epochs(model, cut, cache.random_images(model, 10), 4, tmp_path)
    assert list(made.calls) == ["cached trunk", "trunk recomputed"]
    assert made.difference < 1e-4
    before = functional.split(model, cut)
    pairs = zip(*map(jax.tree.leaves, (made.calls["cached trunk"](), (before.tail, before.head))), strict=True)
    assert all(np.abs(new - old).max() > 0 for new, old in pairs), "everything behind the cut was trained"


def test_features_that_differ_are_noticed(tmp_path, monkeypatch):
    model = filled(NETWORK)
    images = cache.random_images(model, 4)
    monkeypatch.setattr(cache, "_as_it_is", lambda activations: 1.1 * activations)
    assert cache.epochs(model, "layer3.0", images, 4, tmp_path).difference > cache.TOLERANCE


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--batch", "9", "--rows", "8"], "--batch"), (["--weights-dir", "missing"], "weights")]
)
def test_bad_input_is_refused(monkeypatch, capsys, arguments, named):
    monkeypatch.setattr(sys, "argv", ["cache", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cache.main()
    assert named in f"{stopped.value}{capsys.readouterr().err}"
