"""The sweep equals single runs, compiles a bounded number of times, and continues where it stopped."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pairs import make_pair

from cimm_jax import (
    InputError,
    SplitPair,
    Task,
    TaskPair,
    immunize,
    methods,
    relative_immunization_ratio,
    stack_pairs,
)
from cimm_jax.methods import _sweep as sweeping
from cimm_jax.methods._sweep import abstract_progress, block_size, sweep
from cimm_jax.methods.pairs import pairs_of, pairs_of_stack
from cimm_jax.tasks import SplitTask

PAIRS = [make_pair(seed) for seed in range(3)]
SPLIT = SplitPair(stack_pairs(PAIRS), stack_pairs([make_pair(seed + 10) for seed in range(3)]))
KEYS = jax.random.split(jax.random.key(0), 2)


def test_every_pair_and_seed_equals_a_run_of_its_own():
    chosen = {"algorithm1": methods.algorithm1(), "imma": methods.imma()}
    measured = sweep(chosen, SPLIT, keys=KEYS, steps=7, chunks=3)
    for name, method in chosen.items():
        assert measured[name].train.ratio.rir.shape == (3, 2)
        for index, pair in enumerate(PAIRS):
            for seed, key in enumerate(KEYS):
                theta = immunize(method, pair, key=key, steps=7).theta
                alone = relative_immunization_ratio(theta, pair).rir
                np.testing.assert_allclose(measured[name].train.ratio.rir[index, seed], alone, rtol=1e-6)


@pytest.mark.slow
def test_the_share_is_that_of_each_run_and_the_closed_form_reaches_the_limit():
    measured = sweep(
        {"pencil": methods.pencil(ridge=0.0), "algorithm1": methods.algorithm1()}, SPLIT, keys=KEYS, steps=5
    )
    for name, m in measured.items():
        assert m.share.share.shape == (3, 2)
        assert not np.any(m.share.exceeded)
        # These pairs have full rank, so the primary's range is everything and Eq. 1 is what the share is about.
        np.testing.assert_allclose(m.share.log_rir, np.log(m.train.ratio.rir), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(m.share.share, m.share.log_rir / m.share.limit, rtol=1e-9)
        if name == "pencil":
            np.testing.assert_allclose(m.share.share, 1, rtol=1e-8)
        else:
            assert (np.asarray(m.share.share) < 0.9).all()


def test_ninety_pairs_compile_as_often_as_one():
    method = methods.algorithm1()
    chex.clear_trace_counter()
    counted = method._replace(
        init=chex.assert_max_traces(method.init, n=1),
        # advance holds the step twice: in the loop, and the one whose Info is kept.
        step=chex.assert_max_traces(method.step, n=2),
        extractor=chex.assert_max_traces(method.extractor, n=1),
    )
    ninety = jax.tree.map(lambda leaf: np.repeat(leaf, 30, axis=0), SPLIT)
    for keys in (KEYS, jax.random.split(jax.random.key(1), 2)):
        measured = sweep({"algorithm1": counted}, ninety, keys=keys, steps=10, chunks=4)
    assert measured["algorithm1"].train.ratio.rir.shape == (90, 2)


CHOSEN = {"algorithm1": methods.algorithm1(), "ill_only": methods.ill_only()}


@pytest.mark.slow
def test_the_result_does_not_depend_on_how_many_pairs_are_worked_on_at_once():
    chosen, calls = {"ill_only": CHOSEN["ill_only"]}, []
    whole = sweep(chosen, SPLIT, keys=KEYS, steps=4, batch_size=5, pairs_at_once=3)
    blocks = sweep(chosen, SPLIT, keys=KEYS, steps=4, batch_size=5, chunks=1, pairs_at_once=2, checkpoint=calls.append)
    assert [int(progress.finished) for progress in calls] == [0, 2]
    assert [progress.steps_made(4) for progress in calls] == [8, 12]
    chex.assert_trees_all_close(blocks, whole, rtol=1e-9)


def test_pairs_of_a_stack_of_tasks_equal_stacked_pairs():
    rng = np.random.default_rng(0)
    scales = np.geomspace(1, 10, 4)[rng.permuted(np.tile(np.arange(4), (3, 1)), axis=1)]

    def stack(rows):
        return Task(rng.standard_normal((3, rows, 4)) * scales[:, None], rng.choice([-1.0, 1.0], (3, rows)))

    tasks = SplitTask(stack(20), stack(12))
    numbers = [(0, 1), (2, 0), (1, 2)]
    parts = [stack_pairs([TaskPair(*(Task(part.x[i], part.y[i]) for i in pair)) for pair in numbers]) for part in tasks]
    method = methods.ill_only(hessian=methods.HessianFrom.BATCH)  # which looks at the harmful rows of the batch
    for batch_size in (None, 3):
        found, expected = (
            sweep({"a": method}, split, keys=KEYS, steps=3, batch_size=batch_size)["a"]
            for split in (pairs_of(tasks, numbers), SplitPair(*parts))
        )
        chex.assert_trees_all_close(found, expected, rtol=1e-9)
        pair = jax.tree.map(lambda leaf: leaf[1], parts[0])
        theta = immunize(method, pair, key=KEYS[1], steps=3, batch_size=batch_size).theta
        alone = relative_immunization_ratio(theta, jax.tree.map(jnp.asarray, pair)).rir
        np.testing.assert_allclose(found.train.ratio.rir[1, 1], alone, rtol=1e-6)


def test_pairs_at_once_follow_the_memory_and_blocks_are_even(monkeypatch):
    pairs = pairs_of_stack(jax.tree.map(lambda leaf: np.repeat(leaf, 30, axis=0), SPLIT))
    sizes = []
    for free in (1, 10**6, 10**15):
        monkeypatch.setattr(sweeping, "free_bytes", lambda free=free: free)
        sizes.append(block_size(CHOSEN, pairs, KEYS, 5))
    assert sizes[0] == 1
    assert 1 < sizes[1] < 90
    assert sizes[2] == 90
    assert [block_size(CHOSEN, pairs, KEYS, 5, asked) for asked in (7, 89, 200)] == [7, 45, 90]


@pytest.mark.parametrize("at_once", [pytest.param(3, marks=pytest.mark.slow), 1])
@pytest.mark.slow
def test_an_interrupted_sweep_continues_to_the_same_result(at_once):
    whole = sweep(CHOSEN, SPLIT, keys=KEYS, steps=10, batch_size=5, chunks=5)
    saved = []

    def interrupt(progress):
        saved.append(jax.tree.map(lambda leaf: leaf.copy(), progress))
        if progress.steps_made(10) >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(CHOSEN, SPLIT, keys=KEYS, steps=10, batch_size=5, chunks=5, pairs_at_once=2, checkpoint=interrupt)
    assert saved[-1].steps_made(10) == 24
    assert int(saved[-1].finished) == 2
    chex.assert_trees_all_equal_shapes_and_dtypes(saved[-1], abstract_progress(CHOSEN, SPLIT, KEYS, 2))
    for progress in (saved[-1], saved[2]):
        made, sizes = [], []

        def note(now, made=made, sizes=sizes):
            made.append(now.steps_made(10))
            sizes.append(now.at_once)

        continued = sweep(
            CHOSEN,
            SPLIT,
            keys=KEYS,
            steps=10,
            batch_size=5,
            chunks=5,
            pairs_at_once=at_once,
            progress=jax.tree.map(lambda leaf: leaf.copy(), progress),
            checkpoint=note,
        )
        assert made[0] > progress.steps_made(10) * (0.5 if at_once == 1 else 1)
        assert sizes[0] == min(at_once, 2)
        chex.assert_trees_all_close(continued, whole, rtol=1e-9)


def test_without_a_size_the_blocks_stay_as_they_were_and_nothing_is_rounded_differently():
    settings = {"keys": KEYS, "steps": 4, "chunks": 2}
    saved, sizes = [], []
    whole = sweep(
        CHOSEN,
        SPLIT,
        pairs_at_once=2,
        checkpoint=lambda progress: saved.append(jax.tree.map(lambda leaf: leaf.copy(), progress)),
        **settings,
    )
    continued = sweep(
        CHOSEN, SPLIT, progress=saved[0], checkpoint=lambda progress: sizes.append(progress.at_once), **settings
    )
    assert set(sizes) == {2}, "though memory has room for all"
    chex.assert_trees_all_equal(continued, whole)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="methods"):
        sweep({}, SPLIT, keys=KEYS)
    with pytest.raises(InputError, match="pairs_at_once"):
        sweep({"a": methods.algorithm1()}, SPLIT, keys=KEYS, pairs_at_once=0)
    with pytest.raises(InputError, match="keys"):
        sweep({"a": methods.algorithm1()}, SPLIT, keys=KEYS[:0])
    with pytest.raises(InputError, match="stack_pairs"):
        sweep({"a": methods.algorithm1()}, SplitPair(PAIRS[0], PAIRS[0]), keys=KEYS)
    dark = SPLIT.train._replace(harmful=SPLIT.train.harmful._replace(x=SPLIT.train.harmful.x.at[1].set(0)))
    with pytest.raises(InputError, match=r"split.train\[1\].harmful.x"):
        sweep({"a": methods.algorithm1()}, SPLIT._replace(train=dark), keys=KEYS)
