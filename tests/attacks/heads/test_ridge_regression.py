import numpy as np
import pytest
from attacks.attacked import make_target, run_one
from attacks.heads.on_digits import at_rates, digits, digits_target, squared
from sklearn.linear_model import Ridge, RidgeCV

from cimm_jax import one_hot
from cimm_jax.attacks import normal_equations
from cimm_jax.attacks.adaptive import HEAVIEST_EXPONENT, RIDGES
from cimm_jax.attacks.heads import ridge_regression


def centred_and_scaled(x, heldout_x, standardised):
    scale = np.where(x.std(0) > 0, x.std(0), np.inf) if standardised else 1.0
    return tuple((part - x.mean(0)) / scale for part in (x, heldout_x))


@pytest.mark.parametrize("standardised", [True, False], ids=["standardised", "unscaled"])
@pytest.mark.parametrize("rows", [500, 40], ids="{} rows".format)
def test_it_is_scikit_learns_with_the_same_ridges(rows, standardised):
    x, labels, heldout_x, heldout_labels = digits()
    y, heldout_y = one_hot(labels), one_hot(heldout_labels)
    x, y = x[:rows], y[:rows]
    x, heldout_x = centred_and_scaled(x, heldout_x, standardised)
    relative = np.logspace(2 * np.log10(np.finfo(float).eps), HEAVIEST_EXPONENT, RIDGES)
    ridges = relative[relative > 1e-10] * np.linalg.norm(x, 2) ** 2
    model = RidgeCV(ridges).fit(x, y)
    assert ridges[1] < model.alpha_ < ridges[-1]
    target = digits_target()
    target = target._replace(fit=type(target.fit)(target.fit.x[:rows], target.fit.y[:rows]))
    found = at_rates(ridge_regression(standardised=standardised), target, (1.0, 10.0))
    for at, times in enumerate((1, 10)):
        model = Ridge(times * model.alpha_).fit(x, y) if times > 1 else model
        scores = model.predict(heldout_x)
        np.testing.assert_allclose(found.heldout_loss[at, 0], squared(scores, heldout_y), rtol=1e-6)
        np.testing.assert_allclose(found.loss[at, 0], squared(model.predict(x), y), rtol=1e-6)
        assert found.accuracy[at, 0, 0] == np.mean(scores.argmax(1) == heldout_y.argmax(1))


def test_the_intercept_does_what_the_normal_equations_cannot(rng):
    x = rng.standard_normal((200, 3)) + np.asarray([5, 0, 0])
    y = np.sign(x[:, 0] - 5.5 + 0.1 * rng.standard_normal(200))
    target = make_target(x[:100], y[:100], (x[100:], y[100:]))
    assert (
        run_one(ridge_regression(), target).accuracy[-1] > run_one(normal_equations(steps=1), target).accuracy[-1] + 0.1
    )
