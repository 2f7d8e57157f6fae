import jax
import numpy as np
import prescribed
import pytest
import scipy.optimize
from attacks.attacked import loss_of, make_target, run, run_one

from cimm_jax import InputError, losses
from cimm_jax.attacks import newton
from cimm_jax.attacks._newton import ITERATIONS, _newton_step

RECORDS = (1, 2, 3, 12, 30)
LOGISTIC = newton(steps=30, loss=losses.logistic, record_at=RECORDS)


def logistic_loss(scores, y):
    return float(np.mean(np.logaddexp(0, -y * scores)))


def test_one_step_solves_least_squares(rng):
    for shape in ((20, 5), (5, 9)):
        x = prescribed.features(rng, prescribed.geometric(1e6, 5), shape)
        y, heldout = (
            rng.standard_normal((shape[0], 2)),
            (rng.standard_normal((8, shape[1])), rng.standard_normal((8, 2))),
        )
        found = run_one(newton(steps=30, record_at=RECORDS), make_target(x, y, heldout))
        best = np.linalg.lstsq(x, y)[0]
        np.testing.assert_allclose(found.loss, np.full(len(RECORDS), loss_of(best, x, y)), rtol=1e-8, atol=1e-20)
        np.testing.assert_allclose(found.heldout_loss, loss_of(best, *heldout), rtol=1e-6)
        np.testing.assert_array_equal(found.norm_ratio, 0)


def test_the_logistic_optimum_is_scipy_s(rng):
    x, y = rng.standard_normal((60, 3)), np.sign(rng.standard_normal((60, 2)))
    heldout = rng.standard_normal((30, 3)), np.sign(rng.standard_normal((30, 2)))
    optimum = scipy.optimize.minimize(
        lambda w: logistic_loss(x @ w.reshape(3, 2), y), np.zeros(6), method="BFGS", options={"gtol": 1e-9}
    ).x.reshape(3, 2)
    found = run_one(LOGISTIC, make_target(x, y, heldout))
    np.testing.assert_allclose(found.loss[2:], logistic_loss(x @ optimum, y), rtol=1e-8)
    np.testing.assert_allclose(found.heldout_loss[-1], logistic_loss(heldout[0] @ optimum, heldout[1]), rtol=1e-6)
    assert not found.diverged.any()
    assert found.loss[0] > found.loss[-1] * (1 + 1e-6)


def test_the_first_logistic_step_is_the_textbook_s(rng):
    x, y = rng.standard_normal((30, 4)), np.sign(rng.standard_normal(30))
    w = np.linalg.solve(x.T @ x / 4, x.T @ y / 2)  # at zero every chance is 1/2
    found = run_one(newton(steps=1, loss=losses.logistic, record_at=(1,)), make_target(x, y))
    np.testing.assert_allclose(found.loss, [logistic_loss(x @ w, y)], rtol=1e-9)


def test_no_linear_map_of_the_features_matters(rng):
    x, y = rng.standard_normal((40, 4)), np.sign(rng.standard_normal(40))
    theta = prescribed.matrix(rng, prescribed.geometric(1e5, 4))
    plain, mapped = (run_one(LOGISTIC, make_target(features, y)) for features in (x, x @ theta))
    np.testing.assert_allclose(mapped.loss, plain.loss, rtol=1e-8)
    np.testing.assert_allclose(mapped.heldout_loss, plain.heldout_loss, rtol=1e-8)


def test_separable_data_stay_finite(rng):
    x = rng.standard_normal((20, 3)).astype(np.float32)
    found = run_one(LOGISTIC, make_target(x, np.sign(x[:, 0])))
    assert np.isfinite(found.loss).all()
    assert (np.diff(found.loss) <= 0).all()
    assert found.loss[-1] < 1e-3
    np.testing.assert_array_equal(found.accuracy[-1], 1)
    assert RECORDS[-2] == ITERATIONS
    np.testing.assert_array_equal(found.loss[-1], found.loss[-2])


def test_a_step_that_would_overshoot_is_halved():
    u, y = np.ones((4, 1)) / 2, np.array([1.0, 1, 1, -1])
    c = np.array([12.0])  # the loss is nearly straight here, and its minimum at 2 log 3

    def loss(c):
        return logistic_loss(u @ c, y)

    chance = 1 / (1 + np.exp(-u @ c))
    full = c - (u.T @ (chance - (y + 1) / 2)) / (u[:, 0] ** 2 @ (chance * (1 - chance)))
    assert loss(full) > loss(c)
    assert loss(np.asarray(jax.jit(_newton_step)(u, y, c))) < loss(c)
    np.testing.assert_array_equal(jax.jit(_newton_step)(0 * u, y, c), c)  # nothing to go by


def test_losses_that_judge_what_least_squares_found(rng):
    x, y = rng.standard_normal((30, 4)), 2 * np.eye(3)[rng.integers(0, 3, 30)] - 1
    found = run({"squared": newton(steps=1), "logistic": newton(steps=1, loss=losses.logistic)}, make_target(x, y))
    np.testing.assert_allclose(found["squared"].loss, [loss_of(np.linalg.lstsq(x, y)[0], x, y)])
    assert np.isnan(found["logistic"].norm_ratio).all()


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match=r"^loss: newton takes"):
        newton(loss=losses.softmax)
    with pytest.raises(InputError, match=r"^loss: needs"):
        newton(loss="squared")
    with pytest.raises(InputError, match=r"^steps: .*0"):
        newton(steps=0)
    with pytest.raises(InputError, match=r"^record_at"):
        newton(steps=3, record_at=(4,))
