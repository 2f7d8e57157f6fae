"""Attackers' images: as many of each class, nested from budget to budget, other ones for every seed."""

import numpy as np
import pytest

from cimm_jax.attacks.ladder.draws import ImageBudget, draw_rows, image_budgets
from cimm_jax.errors import InputError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(3), [30, 40, 50]))


def test_a_budget_has_so_many_images_of_each_class_and_the_next_one_has_them_too():
    draws = draw_rows(LABELS, image_budgets(LABELS, (2, 5, 30)), seeds=2, seed=0)
    assert draws.budgets == (ImageBudget(2, 6), ImageBudget(5, 15), ImageBudget(30, 90), ImageBudget(None, 120))
    for seed in range(2):
        sets = [set(draws.rows(budget)[min(seed, len(draws.rows(budget)) - 1)].tolist()) for budget in draws.budgets]
        for budget, rows in zip(draws.budgets[:-1], sets, strict=False):
            assert np.bincount(LABELS[list(rows)]).tolist() == [budget.a_class] * 3
        assert sets[0] < sets[1] < sets[2] < sets[3] == set(range(120))


def test_seeds_draw_other_images_and_the_same_seed_the_same():
    budgets = image_budgets(LABELS, (5,))
    first, again, other = (draw_rows(LABELS, budgets, seeds=2, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.orders, again.orders)
    assert set(first.rows(budgets[0])[0]) != set(first.rows(budgets[0])[1])
    assert set(first.rows(budgets[0])[0]) != set(other.rows(budgets[0])[0])
    assert len(first.rows(budgets[-1])) == 1, "there is one way to take all"


def test_standard_budgets_are_those_that_there_are_images_for():
    assert [budget.a_class for budget in image_budgets(LABELS, None)] == [5, 20, None]
    assert [budget.a_class for budget in image_budgets(np.arange(3), None)] == [None]
    even = np.repeat(np.arange(2), 20)
    assert [budget.images for budget in image_budgets(even, (5, 20))] == [10, 40], "all of them are no second budget"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ((31,), "at most 30, got 31: class 0"),
        ((0,), "ascending numbers from 1"),
        ((5, 2), "ascending"),
        ((5, 5), "ascending"),
    ],
)
def test_budgets_that_cannot_be_are_refused(asked, said):
    with pytest.raises(InputError, match=f"images_a_class: needs .*{said}"):
        image_budgets(LABELS, asked)
