import jax.numpy as jnp
import numpy as np
import pytest
from attacks.attacked import make_target

from cimm_jax import InputError, Task
from cimm_jax.attacks import are_classes, log_spaced_steps
from cimm_jax.attacks.protocol import Factors, accuracy, check_records, check_target


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 999, 1000, 12345])
def test_steps_are_spaced_in_equal_ratios(steps):
    found = log_spaced_steps(steps)
    assert (found[0], found[-1]) == (1, steps)
    assert list(found) == sorted(set(found))
    assert {10**power for power in range(6) if 10**power <= steps} <= set(found)
    assert len(found) <= 40 + np.log10(steps)
    late = np.array([step for step in found if step > 50], float)
    assert (late[1:] / late[:-1] < 1.4).all()
    assert len(log_spaced_steps(1000, 5)) <= 5 + 3


def test_records_are_checked():
    assert check_records(None, 30) == log_spaced_steps(30)
    assert check_records([1, 5], 5) == (1, 5)
    with pytest.raises(InputError, match=r"^steps: .*-1"):
        log_spaced_steps(-1)
    with pytest.raises(InputError, match=r"^record_at: .*steps=5"):
        check_records((1, 6), 5)


def test_accuracy_is_by_sign_or_by_the_largest_score():
    two = np.array([1.0, -1.0, 1.0, -1.0])
    np.testing.assert_array_equal(accuracy(jnp.array([0.1, -3, -0.1, 2]), two), 0.5)
    np.testing.assert_array_equal(accuracy(jnp.array([[0.1], [-3], [5], [2]]), two[:, None]), 0.75)
    three = 2 * np.eye(3)[[0, 1, 2, 2]] - 1
    scores = jnp.array([[3.0, 2, 1], [3, 1, 2], [-1, -3, -0.5], [9, 8, 7]])
    np.testing.assert_array_equal(accuracy(scores, three), 0.5)
    assert accuracy(scores.astype(jnp.float32), jnp.asarray(three, jnp.float32)).dtype == jnp.float32


def test_accuracy_has_no_meaning_without_classes():
    assert np.isnan(accuracy(jnp.ones(3), jnp.array([1.0, -1.0, 0.5])))
    assert np.isnan(accuracy(jnp.ones((2, 2)), jnp.array([[1.0, -1.0], [2.0, -1.0]])))
    assert are_classes([1.0, -1.0])
    assert not are_classes([[1.0], [0.0]])


def test_other_features_forget_the_map_and_the_factors(rng):
    target = make_target(rng.standard_normal((5, 2)), np.ones(5), None, np.eye(2))
    target = target._replace(factors=target.decomposed())
    changed = target.with_features(lambda x: 2 * x)
    np.testing.assert_array_equal(changed.fit.x, 2 * target.fit.x)
    np.testing.assert_array_equal(changed.heldout.x, 2 * target.heldout.x)
    assert changed.mapping is None
    assert changed.factors is None
    given = Factors(1, 2, 3)
    assert target.with_features(lambda x: x, given).decomposed() is given


def test_targets_are_checked():
    x, y = np.arange(8.0).reshape(4, 2), np.ones(4)
    good = make_target(x, y, None, np.eye(2))
    check_target(good)
    bad = {
        r"^target\.fit\.y: is None": good._replace(fit=Task(x)),
        r"^target\.heldout\.x: has 1 NaN": good._replace(heldout=Task(np.where(x == 3, np.nan, x), y)),
        r"^target\.heldout\.x: has 3 features and target\.fit\.x 2": good._replace(heldout=Task(np.ones((4, 3)), y)),
        r"^target\.heldout\.y: is zero everywhere": good._replace(heldout=Task(x, 0 * y)),
        r"^target\.fit\.y: is zero everywhere": good._replace(fit=Task(x, 0 * y)),
        r"^target\.mapping: needs shape \(inputs, 2\), got \(2, 3\)": good._replace(mapping=np.ones((2, 3))),
        r"^target\.mapping: .*\(2,\)": good._replace(mapping=np.ones(2)),
    }
    for message, target in bad.items():
        with pytest.raises(InputError, match=message):
            check_target(target)
