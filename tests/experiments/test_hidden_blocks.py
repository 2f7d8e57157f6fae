"""Blocks that are trained shortly: by the method's recipe, with fewer rows and steps, and no more rows than there are."""

import numpy as np
from networks.small_networks import NETWORK, filled

from cimm_jax import methods
from cimm_jax.networks.features import Labelled
from cimm_jax.networks.training import Trained
from experiments import hidden_blocks
from experiments.hidden_blocks import BATCH, METHOD, trained_to_hide


def test_the_recipe_is_shortened_and_batches_are_no_larger_than_the_data(monkeypatch):
    asked = []

    def train_tail(parts, cut, *tasks, penalties, few, settings):
        asked.append((cut, penalties, settings))
        return Trained(parts, np.zeros(0), np.zeros(0), [])

    monkeypatch.setattr(hidden_blocks, "train_tail", train_tail)
    primary, harmful = (Labelled(np.zeros((rows, 2)), np.arange(rows) % 2) for rows in (1000, 20))
    trained_to_hide(filled(NETWORK), "layer3.0", primary, harmful, seed=3, steps=7)
    ((cut, penalties, settings),) = asked
    method = methods.by_name(METHOD)()
    assert (cut, penalties) == ("layer3.0", method.penalties)
    assert (settings.batch_rows, settings.harmful_rows) == (BATCH["batch_rows"], 20)
    assert (settings.steps, settings.seed) == (7, 3)
    recipe = dict(method.recipe)
    assert settings.distillation == recipe["distillation"] > 0
    assert settings.in_pairs
