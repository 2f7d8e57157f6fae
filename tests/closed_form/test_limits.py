import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax import InputError, Task, TaskPair
from cimm_jax.closed_form.limits import (
    covariance_limit,
    pair_limit,
    pair_pencil,
    seen_in_range,
    share_of_limit,
    share_of_pair,
)
from cimm_jax.closed_form.pencil import pencil_limit
from cimm_jax.closed_form.solution import solve

D, ROWS, COUNT, THETAS = 6, 20, 40, 20

limits = jax.jit(jax.vmap(pencil_limit))
seen = jax.jit(jax.vmap(lambda pair: seen_in_range(pair_pencil(pair))))
shares = jax.jit(jax.vmap(jax.vmap(share_of_limit, (0, None))))


def attempt(budget):
    return jax.jit(jax.vmap(lambda pair, ridge: solve(pair, budget=budget, ridge=ridge), (0, None)))


def pair_of(x_primary, x_harmful):
    return TaskPair(Task(jnp.asarray(x_primary)), Task(jnp.asarray(x_harmful)))


def definite_factors(rng, count, d, kappa=1e6):
    """F with F^T F = K, d x d, condition numbers of K up to kappa."""
    spectra = 10 ** rng.uniform(-np.log10(kappa), 0, (2, count, d))
    return [prescribed.matrix(rng, np.sqrt(spectrum)) for spectrum in spectra]


def deficient_inputs(rng, kind):
    """Inputs of shape (COUNT, ROWS, D) of both tasks, and the ranks they have in the primary's range."""

    def inputs(basis, rank):
        sigma = np.sqrt(prescribed.random_spectra(rng, COUNT, rank))
        return prescribed.matrix(rng, sigma, (ROWS, rank)) @ basis.mT

    def inside(basis, rank):
        return basis @ prescribed.orthonormal(rng, COUNT, basis.shape[-1], rank)

    whole = prescribed.orthonormal(rng, COUNT, D, D)
    if kind == "definite":
        return inputs(whole, D), inputs(inside(whole, D), D), (D, D)
    if kind == "same range":
        return inputs(whole[..., :4], 4), inputs(inside(whole[..., :4], 4), 4), (4, 4)
    if kind == "harmful within primary":
        return inputs(whole[..., :5], 5), inputs(inside(whole[..., :5], 3), 3), (5, 3)
    if kind == "primary within harmful":
        return inputs(whole[..., :3], 3), inputs(inside(whole[..., :5], 5), 5), (3, 3)
    return inputs(whole[..., :4], 4), inputs(prescribed.orthonormal(rng, COUNT, D, 3), 3), (4, 3)


SAME = ["definite", "same range"]
kinds = pytest.mark.parametrize("kind", [*SAME, "harmful within primary", "primary within harmful", "general position"])


def inverse_root(factor):
    """(F^T F)^{-1/2} by NumPy."""
    _, sigma, vt = np.linalg.svd(factor)
    return vt.mT @ (vt / sigma[..., None])


def log_rir(x_primary, x_harmful, theta, ranks):
    """By NumPy, from features that are never squared; valid where both tasks have the same range."""
    kappas = [
        np.log(prescribed.kappa_of(x, rank)) - np.log(prescribed.kappa_of(x @ theta, rank))
        for x, rank in zip((x_primary, x_harmful), ranks, strict=True)
    ]
    return 2 * (kappas[0] - kappas[1])


# --- it is never exceeded ---


def random_extractors(rng, kind, factor):
    """Extractors of shape (count, THETAS, d, m)."""
    count, d = factor.shape[:2]
    if kind == "Gaussian":
        return rng.standard_normal((count, THETAS, d, d))
    if kind == "ill-conditioned":
        return prescribed.matrix(rng, 10 ** rng.uniform(-3, 0, (count, THETAS, d)))
    if kind == "rectangular":
        return rng.standard_normal((count, THETAS, d, max(d // 2, 1)))
    # Whitening attains the limit: its neighbours come near it.
    whitening = inverse_root(factor)[:, None] @ prescribed.orthonormal(rng, count, THETAS, d, d)
    return whitening @ (np.eye(d) + 1e-2 * rng.standard_normal((count, THETAS, d, d)))


@pytest.mark.parametrize("d", [2, 4, 8])
def test_no_extractor_of_200_definite_pairs_exceeds_the_limit(rng, d):
    primary, harmful = definite_factors(rng, 200, d)
    limit = np.asarray(limits(primary.mT @ primary, harmful.mT @ harmful))[:, None]
    for kind in ("Gaussian", "ill-conditioned", "rectangular", "near the optimum"):
        theta = random_extractors(rng, kind, primary)
        ratio = (prescribed.kappa_of(harmful[:, None] @ theta) / prescribed.kappa_of(primary[:, None] @ theta)) ** 2
        assert (ratio <= limit * (1 + 1e-6)).all(), kind
    assert (ratio > 0.3 * limit).any()


@kinds
def test_no_invertible_extractor_of_a_deficient_pair_exceeds_the_limit(rng, kind):
    x_primary, x_harmful, ranks = deficient_inputs(rng, kind)
    found = seen(pair_of(x_primary, x_harmful))
    np.testing.assert_array_equal(found.limit.rank_primary, ranks[0])
    np.testing.assert_array_equal(found.limit.rank_harmful, ranks[1])
    assert (np.asarray(found.limit.harmful_only) == (kind in ("primary within harmful", "general position"))).all()
    spread = prescribed.random_spectra(rng, COUNT * THETAS, D, log_range=5.0).reshape(COUNT, THETAS, D)
    for theta in (rng.standard_normal((COUNT, THETAS, D, D)), prescribed.matrix(rng, spread)):
        result = shares(theta, found)
        assert (np.asarray(result.share) <= 1 + 1e-6).all()
        assert not np.asarray(result.exceeded).any()


def test_climbing_a_hill_does_not_exceed_the_limit(rng):
    (primary,), (harmful,) = definite_factors(rng, 1, 3, kappa=100)
    limit = float(pencil_limit(primary.T @ primary, harmful.T @ harmful))

    def ratio(theta):
        return (prescribed.kappa_of(harmful @ theta) / prescribed.kappa_of(primary @ theta)) ** 2

    theta = np.eye(3)
    start = best = ratio(theta)
    for _ in range(600):
        scale = 10 ** rng.uniform(-3, 0, (16, 1, 1))
        candidates = theta @ (np.eye(3) + scale * rng.standard_normal((16, 3, 3)))
        # The climb drifts towards singular extractors, whose rounded condition numbers mean nothing.
        candidates = candidates[prescribed.kappa_of(candidates) < 1e6]
        ratios = ratio(candidates)
        assert (ratios <= limit * (1 + 1e-6)).all()
        if ratios.max(initial=0) > best:
            theta, best = candidates[ratios.argmax()], ratios.max()
    assert start < 0.1 * limit < 0.9 * limit < best


# --- it is attained ---


@pytest.mark.parametrize("budget", [1, 30, "keep"])
@pytest.mark.parametrize("kind", SAME)
def test_the_closed_form_attains_the_limit_at_every_budget(rng, kind, budget):
    x_primary, x_harmful, ranks = deficient_inputs(rng, kind)
    pair = pair_of(x_primary, x_harmful)
    found = seen(pair)
    theta = np.asarray(attempt(budget)(pair, 0.0).theta)
    np.testing.assert_allclose(log_rir(x_primary, x_harmful, theta, ranks), found.limit.log_rir, rtol=1e-8)
    kappa = prescribed.kappa_of(x_primary @ theta, ranks[0]) ** 2
    allowed = prescribed.kappa_of(x_primary, ranks[0]) ** 2 if budget == "keep" else np.full(COUNT, budget, float)
    np.testing.assert_allclose(kappa, allowed, rtol=1e-8)
    assert (np.linalg.cond(theta) < 1e6).all()


@kinds
def test_the_closed_form_has_share_one(rng, kind):
    x_primary, x_harmful, _ = deficient_inputs(rng, kind)
    pair = pair_of(x_primary, x_harmful)
    result = shares(attempt(30)(pair, 0.0).theta[:, None], seen(pair))
    np.testing.assert_allclose(result.share, 1, rtol=1e-8)


@pytest.mark.parametrize("d", [2, 6])
def test_whitening_and_any_rotation_attain_the_limit(rng, d):
    primary, harmful = definite_factors(rng, COUNT, d, kappa=1e4)
    theta = inverse_root(primary) @ prescribed.orthonormal(rng, COUNT, d, d)
    found = limits(primary.mT @ primary, harmful.mT @ harmful)
    np.testing.assert_allclose(prescribed.kappa_of(harmful @ theta) ** 2, found, rtol=1e-8)


@pytest.mark.parametrize("budget", [30, "keep"])
@pytest.mark.parametrize("kind", SAME)
def test_with_a_ridge_the_budget_is_kept_where_whitening_alone_keeps_it(rng, kind, budget):
    x_primary, x_harmful, ranks = deficient_inputs(rng, kind)
    pair = pair_of(x_primary, x_harmful)
    solve_all, kappa_primary = attempt(budget), prescribed.kappa_of(x_primary, ranks[0]) ** 2
    allowed = kappa_primary if budget == "keep" else np.full(COUNT, budget, float)
    for ridge in (1e-3, 0.1, 10.0):
        solution = solve_all(pair, ridge)
        kappa = prescribed.kappa_of(x_primary @ np.asarray(solution.theta), ranks[0]) ** 2
        sigma = np.linalg.svd(x_primary, compute_uv=False)[:, : ranks[0]] ** 2
        kept = sigma / (sigma + ridge * sigma.sum(1, keepdims=True) / D)
        whitening = kept[:, 0] / kept[:, -1]
        enough = whitening <= allowed
        assert enough.any()
        assert (kappa[enough] <= allowed[enough] * (1 + 1e-9)).all()
        np.testing.assert_allclose(kappa[~enough], whitening[~enough], rtol=1e-9)
        assert not np.asarray(shares(solution.theta[:, None], seen(pair)).exceeded).any()


# --- shares ---


@kinds
def test_the_identity_has_share_zero(rng, kind):
    x_primary, x_harmful, _ = deficient_inputs(rng, kind)
    result = shares(np.broadcast_to(np.eye(D), (COUNT, 1, D, D)), seen(pair_of(x_primary, x_harmful)))
    np.testing.assert_allclose(result.share, 0, atol=1e-9)


def test_a_pair_with_identical_covariances_has_no_share(rng):
    x, _, _ = deficient_inputs(rng, "definite")
    rotated = prescribed.orthonormal(rng, COUNT, ROWS, ROWS) @ x
    result = shares(rng.standard_normal((COUNT, THETAS, D, D)), seen(pair_of(x, rotated)))
    assert np.isnan(result.share).all()
    assert not np.asarray(result.exceeded).any()
    np.testing.assert_allclose(result.log_rir, 0, atol=1e-6)


def test_the_log_of_the_ratio_is_that_of_the_features(rng):
    x_primary, x_harmful, ranks = deficient_inputs(rng, "same range")
    theta = rng.standard_normal((COUNT, 1, D, D))
    result = shares(theta, seen(pair_of(x_primary, x_harmful)))
    expected = log_rir(x_primary, x_harmful, theta[:, 0], ranks)
    np.testing.assert_allclose(result.log_rir[:, 0], expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(result.share[:, 0], expected / result.limit[:, 0], rtol=1e-8, atol=1e-10)


def test_an_extractor_above_a_lowered_limit_is_flagged(rng):
    x_primary, x_harmful, _ = deficient_inputs(rng, "same range")
    pair = pair_of(x_primary, x_harmful)
    found, theta = seen(pair), attempt(30)(pair, 0.0).theta[:, None]
    for factor, exceeded in ((1 - 1e-5, True), (1 - 1e-8, False)):
        lowered = found._replace(limit=found.limit._replace(log_rir=factor * found.limit.log_rir - (1 - factor)))
        assert (np.asarray(shares(theta, lowered).exceeded) == exceeded).all()


# --- the two entrances ---


def test_inputs_and_covariances_have_the_same_limit(rng):
    x_primary, x_harmful, ranks = deficient_inputs(rng, "same range")
    one = jax.jit(jax.vmap(pair_limit))(pair_of(x_primary, x_harmful))
    other = jax.jit(jax.vmap(covariance_limit))(x_primary.mT @ x_primary, x_harmful.mT @ x_harmful)
    for field, value in one._asdict().items():
        if field != "outside":
            np.testing.assert_allclose(getattr(other, field), value, rtol=1e-8, err_msg=field)
    np.testing.assert_allclose(one.kappa_primary, prescribed.kappa_of(x_primary, ranks[0]) ** 2, rtol=1e-9)
    np.testing.assert_allclose(one.kappa_harmful, prescribed.kappa_of(x_harmful, ranks[1]) ** 2, rtol=1e-9)


def test_limit_and_share_have_no_scale(rng):
    x_primary, x_harmful, _ = deficient_inputs(rng, "harmful within primary")
    pair, theta = pair_of(x_primary[0], x_harmful[0]), rng.standard_normal((D, D))
    plain, share = pair_limit(pair), share_of_pair(theta, pair)
    for of_primary, of_harmful, of_theta in ((-900, 900, 0), (900, -900, 600), (-600, -600, -600), (0, 0, 1020)):
        moved = pair_of(np.ldexp(x_primary[0], of_primary), np.ldexp(x_harmful[0], of_harmful))
        for field, value in plain._asdict().items():
            np.testing.assert_allclose(getattr(pair_limit(moved), field), value, rtol=1e-9, atol=1e-20, err_msg=field)
        for found, expected in zip(share_of_pair(np.ldexp(theta, of_theta), moved), share, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_the_limit_does_not_depend_on_the_ridge_of_the_pencil(rng):
    x_primary, x_harmful, _ = deficient_inputs(rng, "general position")
    pair = pair_of(x_primary, x_harmful)
    ridged = jax.jit(jax.vmap(lambda pair: seen_in_range(pair_pencil(pair, ridge=0.3)).limit))(pair)
    for field, value in seen(pair).limit._asdict().items():
        np.testing.assert_allclose(getattr(ridged, field), value, rtol=1e-8, err_msg=field)
    assert np.isposinf(ridged.ratio).all()


def test_rtol_out_of_range_is_refused(rng):
    pair = pair_of(*(x[0] for x in deficient_inputs(rng, "definite")[:2]))
    with pytest.raises(InputError, match=r"^rtol: "):
        pair_limit(pair, rtol=1.0)
