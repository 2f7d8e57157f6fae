"""Training against the best head: what it lowers, in a linear map and everywhere in a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from closed_form.labelled import class_task

from cimm_jax import InputError, Task, TaskPair, immunize, losses, methods
from cimm_jax.closed_form.explained_share import kernel_share, linear_share
from cimm_jax.methods._best_response import explained_by
from cimm_jax.methods._hiding import MOST_ROWS, hiding
from cimm_jax.methods._hsic import dependence

explained = explained_by(("linear", "kernel"))


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    return TaskPair(class_task(rng), class_task(rng))


def test_a_linear_map_hides_most_of_what_heads_explained(pair):
    theta = immunize(methods.best_response(), pair, steps=200).theta
    before, after = (float(explained(x, pair.harmful.y)) for x in (pair.harmful.x, pair.harmful.x @ theta))
    assert before > 0.5
    assert after < 0.6 * before, "as the map becomes singular"


def test_without_weight_nothing_is_hidden(pair):
    theta = immunize(methods.best_response(lambda_harmful=0.0), pair, steps=50).theta
    before, after = (float(explained(x, pair.harmful.y)) for x in (pair.harmful.x, pair.harmful.x @ theta))
    assert after > 0.8 * before


def test_it_is_the_sum_of_both_heads_shares(pair):
    x, y = pair.harmful
    assert float(explained(x, y)) == pytest.approx(float(linear_share(x, y) + kernel_share(x, y)))
    unscaled = float(explained_by(("unscaled",))(x, y))
    assert unscaled == pytest.approx(float(linear_share(x, y, standardise=False)))
    assert unscaled != pytest.approx(float(linear_share(x, y)), rel=1e-3)


def test_heads_look_at_some_rows_of_many():
    rng = np.random.default_rng(0)
    many = class_task(rng, rows=3 * MOST_ROWS)
    pair = TaskPair(class_task(rng), many)
    shapes = []

    def noted(x, y):
        shapes.append(x.shape)
        return x.sum() + y.sum()

    method = hiding(noted, 1.0, optimizer=None, loss=losses.squared)
    on_device = jax.tree.map(jnp.asarray, pair)
    method.step(method.init(jax.random.key(0), on_device), on_device)
    assert {rows for rows, _ in shapes} == {MOST_ROWS}


def test_of_trained_blocks_it_looks_at_every_output():
    (penalty,) = methods.best_response().penalties
    assert penalty.everywhere
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)))
    y = jnp.eye(4)[jnp.arange(40) % 4]
    batch = TaskPair(Task(jnp.ones((5, 3))), Task(x, y))
    assert float(penalty.value(batch)) == pytest.approx(float(explained(x, y)))


def test_the_dependence_is_the_definition_and_lower_behind_its_map(pair):
    x, y = pair.harmful
    plain = (x - x.mean(0)) / x.std(0)
    squares = ((plain[:, None] - plain[None]) ** 2).sum(-1)
    centre = np.eye(len(x)) - 1 / len(x)
    k, labels = centre @ np.exp(-squares / x.shape[1]) @ centre, centre @ y @ y.T @ centre
    expected = np.trace(k @ labels) / np.linalg.norm(k) / np.linalg.norm(labels)
    assert float(dependence(x, y)) == pytest.approx(expected, rel=2e-2)
    assert float(dependence(x, jnp.ones_like(y))) == 0
    theta = immunize(methods.hsic(), pair, steps=200).theta
    assert float(dependence(x @ theta, y)) < 0.7 * expected


def test_a_weight_out_of_range_is_refused():
    with pytest.raises(InputError, match=r"^lambda_harmful: "):
        methods.best_response(lambda_harmful=-1.0)


def test_an_attacker_who_fine_tunes_is_one_more_penalty():
    plain, attacked = methods.best_response(
        fine_tuning_steps=4, fine_tuning_rates=(0.5,), fine_tuning_images=8
    ).penalties
    assert plain.after is None
    assert attacked.after == (linear_share, 4, (0.5,), 8)
    assert attacked.weight == plain.weight
    explained, hindered = methods.best_response(fine_tuning_steps=2, fine_tuning_goal="likelihood").penalties
    assert explained.weight == plain.weight
    (of_sophon,) = methods.sophon(fine_tuning_steps=2, lambda_harmful=10.0).penalties
    assert hindered == of_sophon


@pytest.mark.parametrize(
    "settings",
    [
        {"fine_tuning_steps": -1},
        {"fine_tuning_rates": ()},
        {"fine_tuning_rates": (0.0,)},
        {"fine_tuning_steps": 1, "fine_tuning_images": 1},
        {"fine_tuning_goal": "nothing"},
    ],
)
def test_an_attacker_out_of_range_is_refused(settings):
    with pytest.raises(InputError, match=f"^{list(settings)[-1]}: "):
        methods.best_response(**settings)
