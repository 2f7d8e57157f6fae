"""The baseline SOPHON: what its attacker reaches, and that training leaves that attacker with less."""

import jax
import numpy as np
import pytest
from closed_form.labelled import class_task

from cimm_jax import InputError, TaskPair, immunize, methods
from cimm_jax.methods._sophon import inverse_cross_entropy, likelihood


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return TaskPair(class_task(rng), class_task(rng))


def test_the_head_says_more_than_guessing_of_labels_that_features_tell(pair):
    x, y = pair.harmful
    guessing = -np.log(y.shape[1])
    assert float(likelihood(x, y)) > guessing + 0.3
    assert float(likelihood(x, np.random.default_rng(1).permutation(y))) < guessing + 0.15


def test_the_inverse_cross_entropy_is_that_of_rows_the_head_was_not_fitted_to(pair):
    x, y = pair.harmful
    guessing = -np.log(1 - 1 / y.shape[1])
    assert float(inverse_cross_entropy(x, y)) > guessing + 0.1
    half = -(-len(x) // 2)
    labels = np.concatenate([y[:half], np.random.default_rng(1).permutation(y[half:])])
    assert float(inverse_cross_entropy(x, labels)) < float(inverse_cross_entropy(x, y)) - 0.1


def test_two_classes_may_be_one_column(pair):
    x = pair.harmful.x
    y = np.where(x[:, 0] > 0, 1.0, -1.0)
    one, two = float(likelihood(x, y)), float(likelihood(x, np.stack([y, -y], 1)))
    assert one == pytest.approx(two)


def test_a_linear_map_leaves_the_attacker_with_less(pair):
    theta = immunize(methods.sophon(lambda_harmful=30.0), pair, steps=150).theta
    before, after = (float(inverse_cross_entropy(x, pair.harmful.y)) for x in (pair.harmful.x, pair.harmful.x @ theta))
    assert after < before - 0.1


def test_its_penalty_looks_after_an_attacker_of_the_likelihood():
    (penalty,) = methods.sophon(fine_tuning_steps=3, fine_tuning_rates=(0.2,)).penalties
    assert penalty.after == (likelihood, 3, (0.2,), None)


@pytest.mark.parametrize("settings", [{"fine_tuning_steps": 0}, {"fine_tuning_rates": ()}, {"lambda_harmful": -1.0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(InputError, match=f"^{next(iter(settings))}: "):
        methods.sophon(**settings)


def test_gradients_are_finite_where_features_do_not_vary(pair):
    x, y = pair.harmful
    gradient = jax.grad(lambda x: inverse_cross_entropy(x, y))(0 * x)
    assert np.isfinite(gradient).all()
