import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest
from attacks.attacked import least_loss, loss_of, make_target, run, run_one, seen_by, share_left

from cimm_jax import InputError, losses
from cimm_jax.attacks import linear_probe, normal_equations, ridge_probe, standardised, undone, whitened
from cimm_jax.attacks.adaptive import HEAVIEST_EXPONENT, RIDGES

ridge = jax.jit(ridge_probe)


def kappa(x):
    sigma = np.linalg.svd(x, compute_uv=False)
    return (sigma[0] / sigma[-1]) ** 2


def ill_conditioned(rng, shape=(20, 5), spread=1e4):
    x = prescribed.features(rng, prescribed.geometric(spread, min(shape)), shape)
    heldout = rng.standard_normal((8, shape[1])), rng.standard_normal(8)
    return make_target(x, rng.standard_normal(shape[0]), heldout)


def assert_factors_fit(target):
    u, sigma, vt = (np.asarray(factor) for factor in target.factors)
    np.testing.assert_allclose((u * sigma) @ vt, target.fit.x, atol=1e-9)
    np.testing.assert_allclose(vt @ vt.T, np.eye(len(vt)), atol=1e-9)
    assert (np.diff(sigma) <= 0).all()


@pytest.mark.parametrize("shape", [(20, 5), (4, 7)], ids=str)
def test_whitening_makes_the_condition_number_one(rng, shape):
    target = ill_conditioned(rng, shape)
    seen = seen_by(whitened, target)
    rank = min(shape)
    np.testing.assert_allclose(np.linalg.svd(seen.fit.x, compute_uv=False)[:rank], shape[0] ** 0.5, rtol=1e-9)
    assert_factors_fit(seen)
    # One linear map whitens both parts.
    unmix = np.linalg.lstsq(target.fit.x, seen.fit.x)[0]
    np.testing.assert_allclose(seen.heldout.x, target.heldout.x @ unmix, rtol=1e-6, atol=1e-9)
    assert kappa(target.fit.x) > 9e3


def test_whitening_drops_what_the_features_lack_and_all_but_the_strongest(rng):
    x = prescribed.matrix(rng, [3.0, 2.0, 1.0, 0.0], (12, 4))
    target = make_target(x, rng.standard_normal(12))
    u = np.linalg.svd(x)[0]
    for top_k, kept in ((None, 3), (9, 3), (2, 2)):
        seen = seen_by(lambda attack, top_k=top_k: whitened(attack, top_k=top_k), target)
        np.testing.assert_allclose(seen.fit.x @ seen.fit.x.T / 12, u[:, :kept] @ u[:, :kept].T, atol=1e-9)
        np.testing.assert_array_equal(np.asarray(seen.fit.x)[:, kept:], 0)
        assert_factors_fit(seen)


def test_line_search_on_whitened_features_ends_in_one_step(rng):
    x = prescribed.features(rng, prescribed.geometric(1e4, 5), (20, 5))
    y = rng.standard_normal(20)
    plain = linear_probe("line_search", steps=3, record_at=(1, 3))
    found = run({"plain": plain, "whitened": whitened(plain), "strongest": whitened(plain, top_k=2)}, make_target(x, y))
    np.testing.assert_allclose(share_left(found["whitened"], x, y), 0, atol=1e-12)
    assert share_left(found["plain"], x, y)[-1] > 0.1
    u = np.linalg.svd(x)[0][:, :2]
    np.testing.assert_allclose(found["strongest"].loss, np.mean((y - u @ (u.T @ y)) ** 2) / 2, rtol=1e-9)


def test_standardising_makes_every_feature_one_in_mean_square(rng):
    x = rng.standard_normal((20, 4)) * [1e-3, 1.0, 1e3, 0.0]
    heldout_x = rng.standard_normal((7, 4))
    seen = seen_by(standardised, make_target(x, rng.standard_normal(20), (heldout_x, np.ones(7))))
    np.testing.assert_allclose(np.mean(np.square(seen.fit.x), axis=0), [1, 1, 1, 0])
    scale = np.sqrt(np.mean(x**2, axis=0))[:3]
    np.testing.assert_allclose(np.asarray(seen.heldout.x)[:, :3], heldout_x[:, :3] / scale)
    np.testing.assert_array_equal(np.asarray(seen.heldout.x)[:, 3], 0)


def test_undoing_a_known_map_gives_the_inputs_back(rng):
    inputs, heldout = rng.standard_normal((20, 4)), rng.standard_normal((7, 4))
    y = rng.standard_normal(20)
    theta = prescribed.matrix(rng, prescribed.geometric(1e6, 4))
    target = make_target(inputs @ theta, y, (heldout @ theta, np.ones(7)), theta)
    seen = seen_by(undone, target)
    np.testing.assert_allclose(seen.fit.x, inputs, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(seen.heldout.x, heldout, rtol=1e-6, atol=1e-8)
    attack = linear_probe("line_search", steps=5, record_at=(1, 5))
    after, before = run_one(undone(attack), target), run_one(attack, make_target(inputs, y, (heldout, np.ones(7))))
    np.testing.assert_allclose(after.loss, before.loss, rtol=1e-8)


def test_undoing_a_map_that_lost_directions_gives_the_others_back(rng):
    inputs = rng.standard_normal((20, 4))
    theta = prescribed.matrix(rng, [1e3, 1.0, 0.0], (4, 3))
    target = make_target(inputs @ theta, rng.standard_normal(20), None, theta)
    seen = seen_by(undone, target)
    np.testing.assert_allclose(seen.fit.x, inputs @ theta @ np.linalg.pinv(theta), atol=1e-9)


@pytest.mark.parametrize("prepare", [standardised, whitened, undone])
def test_preparations_forget_the_old_map_and_its_decomposition(rng, prepare):
    target = ill_conditioned(rng)._replace(mapping=jnp.eye(5))
    target = target._replace(factors=target.decomposed())
    seen = seen_by(prepare, target)
    assert seen.mapping is None
    assert seen.factors is None or prepare is whitened
    np.testing.assert_array_equal(seen.fit.y, target.fit.y)
    np.testing.assert_array_equal(seen.heldout.y, target.heldout.y)


def left_out_errors(x, y, ridges):
    """By leaving each row out and fitting the others again."""
    errors = np.zeros(len(ridges))
    for i in range(len(y)):
        others = np.delete(x, i, 0)
        gram, moment = others.T @ others, others.T @ np.delete(y, i, 0)
        for k, ridge in enumerate(ridges):
            probe = np.linalg.solve(gram + ridge * np.eye(x.shape[1]), moment)
            errors[k] += np.sum((y[i] - x[i] @ probe) ** 2)
    return errors


@pytest.mark.parametrize("shape", [(15, 4), (6, 9)], ids=str)
@pytest.mark.parametrize("noise", [0.3, 1.5, 5.0])
def test_the_ridge_has_the_least_leave_one_out_error(rng, shape, noise):
    x = prescribed.features(rng, prescribed.geometric(1e3, min(shape)), shape)
    y = x @ rng.standard_normal((shape[1], 2)) + noise * rng.standard_normal((shape[0], 2))
    grid = np.logspace(2 * np.log10(np.finfo(float).eps), HEAVIEST_EXPONENT, RIDGES) * np.linalg.norm(x, 2) ** 2
    sane = grid[grid > 1e-9]
    errors = left_out_errors(x, y, sane)
    chosen = sane[errors.argmin()]
    expected = x.T @ np.linalg.solve(x @ x.T + chosen * np.eye(len(x)), y)
    found = ridge(x, y)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * np.abs(expected).max())
    assert errors.min() < errors[-1] or noise > 1  # else the heaviest always won, and nothing was compared


def test_without_noise_the_weakest_direction_is_found(rng):
    x = prescribed.features(rng, prescribed.geometric(1e8, 5), (20, 5))
    u = np.linalg.svd(x)[0]
    probe = ridge(x, u[:, 4:5])
    np.testing.assert_allclose(x @ probe, u[:, 4:5], atol=1e-6)


def test_directions_at_rounding_level_stay_out_of_the_ridge(rng):
    x = prescribed.matrix(rng, [1.0, 0.5, 0.0], (20, 3))
    probe = np.asarray(ridge(x, rng.standard_normal((20, 1))))
    assert np.abs(probe).max() < 1e3


def test_the_normal_equations_are_done_after_one_step(rng):
    target = ill_conditioned(rng)
    found = run_one(normal_equations(steps=50, record_at=(1, 7, 50)), target)
    probe = np.asarray(ridge(target.fit.x, target.fit.y[:, None]))
    np.testing.assert_allclose(found.loss, loss_of(probe, np.asarray(target.fit.x), np.asarray(target.fit.y)[:, None]))
    expected = loss_of(probe, np.asarray(target.heldout.x), np.asarray(target.heldout.y)[:, None])
    np.testing.assert_allclose(found.heldout_loss, np.full(3, expected))
    assert (found.loss >= least_loss(np.asarray(target.fit.x), np.asarray(target.fit.y))).all()
    assert not found.diverged.any()


def test_the_normal_equations_are_judged_by_the_loss_asked_for(rng):
    x, y = rng.standard_normal((20, 3)), np.sign(rng.standard_normal(20))
    found = run_one(normal_equations(steps=1, loss=losses.logistic), make_target(x, y))
    scores = x @ np.asarray(ridge(x, y[:, None]))[:, 0]
    np.testing.assert_allclose(found.loss, np.mean(np.logaddexp(0, -y * scores)), rtol=1e-9)


def test_bad_settings_are_refused(rng):
    attack = linear_probe("gd")
    with pytest.raises(InputError, match=r"^top_k: .*0"):
        whitened(attack, top_k=0)
    with pytest.raises(InputError, match=r"^target.mapping: is None"):
        undone(attack)(jax.random.key(0), ill_conditioned(rng), 1.0)
    with pytest.raises(InputError, match=r"^steps"):
        normal_equations(steps=0)
    with pytest.raises(InputError, match=r"^record_at"):
        normal_equations(steps=3, record_at=(4,))
    with pytest.raises(InputError, match=r"^loss"):
        normal_equations(loss=abs)
