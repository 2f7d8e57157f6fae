import jax
import jax.numpy as jnp
import numpy as np
import prescribed
import pytest

from cimm_jax.closed_form.ridge import CANDIDATES, FOLDS, _model, _scores, choose_ridge, choose_ridge_in_chunks
from cimm_jax.numerics.condensing import condense
from cimm_jax.tasks import Task

D = 15
SPREAD = np.sqrt(prescribed.geometric(1e4, D))

choose = jax.jit(choose_ridge)
choose_all = jax.jit(jax.vmap(choose_ridge))


def score_all(k, part):
    rank = jnp.asarray(4.0)
    return _scores(_model(k, rank, 4), part, rank)


def inputs(rng, *batch_and_rows):
    return jnp.asarray(rng.standard_normal((*batch_and_rows, D)) * SPREAD)


def unit_rows(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def assert_same_choice(found, reference, rtol=1e-6):
    np.testing.assert_array_equal(found.ridge, reference.ridge)
    differences = np.asarray(found.score - found.score[..., :1])
    np.testing.assert_allclose(differences, reference.score - reference.score[..., :1], rtol=rtol, atol=rtol)


def test_few_rows_need_more_ridge_than_many(rng):
    few = np.asarray(choose_all(inputs(rng, 20, 20)).ridge)
    many = np.asarray(choose_all(inputs(rng, 5, 2000)).ridge)
    assert few.min() > many.max()


@pytest.mark.parametrize("power", [-1000, 900])
def test_the_choice_has_no_scale(rng, power):
    x = rng.standard_normal((20, D)) * SPREAD
    moved, plain = choose_ridge(np.ldexp(x, power)), choose_ridge(x)
    assert_same_choice(moved, plain)
    np.testing.assert_allclose(moved.standard_error, plain.standard_error, rtol=1e-9)


def test_equal_directions_need_more_ridge_than_unequal_ones(rng):
    x = rng.standard_normal((20, 20, D))
    unequal, equal = (np.asarray(choose_all(jnp.asarray(x * scales)).ridge) for scales in (SPREAD, np.ones(D)))
    assert np.median(equal) > 10 * np.median(unequal)


def test_units_and_rotations_do_not_change_the_choice(rng):
    x = inputs(rng, 20, 20)
    reference = choose_all(x)
    assert_same_choice(choose_all(1000 * x), reference)
    assert_same_choice(choose_all(x @ prescribed.orthonormal(rng, 20, D, D)), reference)


def test_the_length_of_a_held_out_row_does_not_change_what_it_says_of_the_candidates(rng):
    k, part = jnp.asarray(prescribed.covariance(rng, [4.0, 2.0, 1.0, 0.1])), jnp.asarray(rng.standard_normal((7, 4)))
    scores = score_all(k, part)
    np.testing.assert_allclose(score_all(1e3 * k, part), scores, rtol=1e-9)
    longer = score_all(k, part.at[2].multiply(1e3))
    np.testing.assert_allclose(longer - longer[:1], scores - scores[:1], atol=1e-9)


def test_the_length_of_a_held_out_row_does_not_change_its_score(rng):
    k, part = jnp.asarray(prescribed.covariance(rng, [4.0, 2.0, 1.0, 0.1])), jnp.asarray(rng.standard_normal((7, 4)))
    np.testing.assert_allclose(score_all(k, part.at[2].multiply(1e3)), score_all(k, part), rtol=1e-9)


def test_the_length_of_a_row_does_not_change_the_standard_error(rng):
    # With two rows each fold is one row, and the ridge is relative to its length.
    x = inputs(rng, 8, 2)
    reference, found = choose_all(x), choose_all(x.at[:, 0].multiply(100))
    np.testing.assert_allclose(found.standard_error, reference.standard_error, atol=1e-3)


def test_rows_of_unequal_length_do_not_pass_for_uncertainty(rng):
    # The same directions, with lengths that say nothing of the shape of K_P: about as much ridge is right.
    x = unit_rows(rng.standard_normal((20, 40, D)) * SPREAD)
    lengths = np.where(np.arange(40) % 2 == 0, 1, 1e-3)[:, None]
    halved = choose_all(jnp.asarray(x[:, ::2]))
    found = choose_all(jnp.asarray(x * lengths))
    assert (np.asarray(found.ridge) >= np.asarray(halved.ridge) / 2).mean() > 0.9


def test_the_score_is_the_likelihood_of_the_angular_central_gaussian(rng):
    k, part = prescribed.covariance(rng, [4.0, 2.0, 1.0, 0.1]), unit_rows(rng.standard_normal((7, 4)))
    scores = score_all(jnp.asarray(k), jnp.asarray(part))
    for relative, found in zip(CANDIDATES, scores, strict=True):
        s = k + relative * np.trace(k) / 4 * np.eye(4)
        form = np.einsum("ni,ni->n", part, np.linalg.solve(s, part.T).T)
        np.testing.assert_allclose(found, np.linalg.slogdet(s)[1] + 4 * np.log(form), rtol=1e-9)


def test_a_row_of_zeros_says_nothing(rng):
    k, part = jnp.asarray(prescribed.covariance(rng, [4.0, 2.0, 1.0, 0.1])), jnp.asarray(rng.standard_normal((7, 4)))
    scores = score_all(k, part.at[2].set(0))
    np.testing.assert_array_equal(scores[:, 2], 0)


def test_rows_of_zeros_at_the_end_change_nothing(rng):
    x = inputs(rng, 20)
    filled = jnp.pad(x, ((0, 3), (0, 0)))
    for found, wanted in zip(choose(filled), choose(x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_columns_of_zeros_leave_the_ridge_as_it_is(rng):
    # Relative to the mean eigenvalue, which they lower: the same ridge is twice as much of it.
    x = inputs(rng, 20, 20)
    blank = jnp.concatenate([x, jnp.zeros_like(x)], axis=-1)
    reference, found = np.asarray(choose_all(x).ridge), np.asarray(choose_all(blank).ridge)
    step = CANDIDATES[1] / CANDIDATES[0]
    ratio = found / reference
    assert ((2 / step <= ratio * 1.001) & (ratio <= 2 * step * 1.001)).all()


def test_ranges_of_lower_dimension_are_judged_within(rng):
    x = inputs(rng, 20, 20)
    basis = prescribed.orthonormal(rng, 20, 2 * D, D)
    reference = choose_all(jnp.concatenate([x, jnp.zeros((20, 20, D))], axis=-1))
    assert_same_choice(choose_all(x @ basis.mT), reference)


def test_the_least_ridge_within_one_standard_error_of_the_best_is_taken(rng):
    path = choose_all(inputs(rng, 20, 20))
    differs = False
    for ridge, candidates, score, error in zip(*map(np.asarray, path), strict=True):
        np.testing.assert_allclose(candidates, CANDIDATES)
        assert ridge == candidates[np.flatnonzero(score <= score.min() + error)[0]]
        assert error > 0
        differs |= ridge < candidates[score.argmin()]
    assert differs


def test_the_path_is_that_of_five_folds_by_hand(rng):
    x = unit_rows(np.asarray(inputs(rng, 23)))
    path = choose(x)
    by_row = []
    for fold in range(5):
        held = np.arange(23) % 5 == fold
        k = x[~held].T @ x[~held]
        for relative in CANDIDATES:
            s = k + relative * np.trace(k) / D * np.eye(D)
            form = np.einsum("ni,ni->n", x[held], np.linalg.solve(s, x[held].T).T)
            by_row.append(np.linalg.slogdet(s)[1] + D * np.log(form))
    by_row = np.concatenate(
        [np.stack(by_row[i : i + len(CANDIDATES)]) for i in range(0, len(by_row), len(CANDIDATES))], axis=1
    )
    np.testing.assert_allclose(path.score, by_row.mean(1), rtol=1e-7)
    best = by_row[by_row.mean(1).argmin()]
    np.testing.assert_allclose(path.standard_error, best.std() / np.sqrt(23), rtol=1e-6)


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 6])
def test_few_rows_are_enough(rng, rows):
    for field in choose(inputs(rng, rows)):
        assert np.isfinite(field).all()


def test_a_batch_is_a_loop(rng):
    x = inputs(rng, 20, 20)
    together = choose_all(x)
    for i in range(20):
        alone = choose(x[i])
        np.testing.assert_array_equal(together.ridge[i], alone.ridge)
        np.testing.assert_allclose(together.score[i], alone.score, rtol=1e-9, atol=1e-9)


def test_float32_stays_float32_and_chooses_alike(rng):
    x = inputs(rng, 20, 20)
    found, reference = choose_all(x.astype(jnp.float32)), choose_all(x)
    assert {field.dtype for field in found} == {jnp.dtype("float32")}
    np.testing.assert_allclose(found.score, reference.score, rtol=1e-2, atol=0.2)
    assert (np.abs(np.log10(found.ridge / reference.ridge.astype(jnp.float32))) < 0.51).all()


@pytest.mark.parametrize("scale", [1.0, 1e180])
def test_rows_read_in_chunks_say_what_all_rows_say(rng, scale):
    x = np.asarray(inputs(rng, 43)) * scale
    chunks = [x[start : start + 2 * FOLDS] for start in range(0, len(x), 2 * FOLDS)]
    condensed = condense((Task(chunk) for chunk in chunks), folds=FOLDS)
    for found, wanted in zip(choose_ridge_in_chunks(condensed, chunks), choose_ridge(jnp.asarray(x)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-8)
