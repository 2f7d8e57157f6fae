import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attacks.heads.on_digits import at_rates, digits_target, scaled_digits
from sklearn.neural_network import MLPClassifier

from cimm_jax import InputError
from cimm_jax.attacks.heads import perceptron
from cimm_jax.attacks.heads._perceptron import _batches

RATES = (1e-6, 2e-2)


@pytest.fixture(scope="module")
def found():
    keys = jax.random.split(jax.random.key(0), 3)
    attack = perceptron(steps=200, batch_size=64, record_at=(1, 50, 200))
    return at_rates(attack, digits_target(), RATES, keys)


@pytest.mark.slow
def test_it_is_as_good_as_scikit_learns(found):
    x, y, heldout_x, heldout_y = scaled_digits()
    model = MLPClassifier((100,), max_iter=1000, random_state=0).fit(x, y.argmax(1))
    share = model.score(heldout_x, heldout_y.argmax(1))
    assert found.accuracy[RATES.index(2e-2), :, -1].mean() > share - 0.01


def test_rate_key_and_steps_matter(found):
    slow, fast = found.heldout_loss
    assert (np.diff(fast[:, [0, 1]], axis=1) < 0).all()
    assert (np.diff(found.loss[1], axis=1) < 0).all()
    assert (slow[:, -1] > 2 * fast[:, -1]).all()
    assert slow[0, 0] != slow[1, 0]


def test_the_rate_warms_up_and_ends_at_zero():
    # Steps 1 to 9 are below the full rate, and the last ones hardly move: AdamW's own steps have about the length of its rate.
    attack = perceptron(steps=100, hidden=8, record_at=(1, 9, 10, 11, 98, 99, 100))
    losses = at_rates(attack, digits_target(), (1e-2,)).loss[0, 0]
    first, full, last = np.abs(np.diff(losses))[[0, 2, -1]]
    assert first > full > 100 * last


def test_every_row_comes_once_before_any_comes_again():
    batches = np.asarray(_batches(jax.random.key(0), 10, 4, 6))
    assert batches.shape == (6, 4)
    in_order = batches.reshape(-1)
    for shuffle in (in_order[:10], in_order[10:20]):
        np.testing.assert_array_equal(np.sort(shuffle), np.arange(10))
    assert (in_order[:10] != in_order[10:20]).any()
    assert batches.dtype == jnp.int32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, r"^hidden: .*0"),
        ({"batch_size": 0}, r"^batch_size: .*0"),
        ({"weight_decay": -1.0}, r"^weight_decay: .*-1"),
        ({"weight_decay": float("nan")}, r"^weight_decay: .*nan"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        perceptron(**settings)
