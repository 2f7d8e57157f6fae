import numpy as np
import pytest

from cimm_jax import InputError
from cimm_jax.attacks import relative_finetuning_deviation, slow_down_gap, steps_to_reach


def test_the_deviation_is_relative_to_the_base_with_its_sign_and_without():
    found = relative_finetuning_deviation([0.5, 0.8, 1.0], [0.4, 1.0, 0.7])
    np.testing.assert_allclose(found, ((20 - 25 + 30) / 3, (20 + 25 + 30) / 3, 30, 30))


def test_an_easier_model_has_a_negative_deviation_and_a_published_one_above_zero():
    found = relative_finetuning_deviation([0.5], [1.0])
    assert found == (-100, 100, -100, 100)


def test_the_gap_is_relative_to_the_base_at_each_record():
    np.testing.assert_allclose(slow_down_gap([0.5, 0.8, 1.0], [0.4, 1.0, 1.0]), [0.2, -0.25, 0])
    np.testing.assert_array_equal(slow_down_gap([0.0, 1.0], [0.5, 0.0]), [np.nan, 1])


def test_steps_are_to_the_first_record_at_the_share():
    records, left = (1, 10, 100), (0.75, 0.5, 0.5)
    for share, expected in ((0.1, 1), (0.25, 1), (0.26, 10), (0.5, 10), (0.51, float("inf")), (1, float("inf"))):
        assert steps_to_reach(records, left, share) == expected
    assert steps_to_reach((3,), (0.0,), 1) == 3
    assert steps_to_reach((1, 2), (np.nan, 0.1), 0.5) == 2


def test_bad_input_is_refused():
    for course in (relative_finetuning_deviation, slow_down_gap):
        with pytest.raises(InputError, match=r"^immunized: .*\(2,\) and \(3,\)"):
            course([1.0, 1, 1], [1.0, 1])
        with pytest.raises(InputError, match=r"^immunized"):
            course([], [])
        with pytest.raises(InputError, match=r"^immunized"):
            course([[1.0]], [[1.0]])
    for bad in (0.0, -0.5, np.nan):
        with pytest.raises(InputError, match=r"^base: "):
            relative_finetuning_deviation([1.0, bad], [1.0, 1.0])
    for share in (0, -0.1, 1.01, np.nan):
        with pytest.raises(InputError, match=r"^share: "):
            steps_to_reach((1,), (0.5,), share)
