"""Weights of penalties: given, or left out to be balanced."""

import pytest

from cimm_jax import InputError
from cimm_jax.numerics.penalty import Penalty, check_weight


@pytest.mark.parametrize("weight", [None, 0, 0.0, 1e9])
def test_a_weight_that_can_be_used_is_given_back(weight):
    assert check_weight(weight, "lambda_harmful") is weight


@pytest.mark.parametrize("weight", [-1e-9, float("inf"), float("-inf"), float("nan")])
def test_any_other_is_refused_by_its_name(weight):
    with pytest.raises(InputError, match=rf"^lambda_harmful: needs a finite number of at least 0, got {weight}"):
        check_weight(weight, "lambda_harmful")


def test_a_penalty_is_balanced_unless_it_has_a_weight():
    assert Penalty(lambda batch: 0).weight is None
