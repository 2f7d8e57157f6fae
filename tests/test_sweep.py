"""The sweep equals single runs, compiles a bounded number of times, and continues where it stopped."""

import chex
import jax
import numpy as np
import pytest
from pairs import make_pair

from cimm_jax import InputError, SplitPair, immunize, methods, stack_pairs
from cimm_jax.methods.sweep import abstract_runs, steps_made, sweep
from cimm_jax.metrics import relative_immunization_ratio

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


def test_an_interrupted_sweep_continues_to_the_same_result():
    chosen = {"algorithm1": methods.algorithm1(), "ill_only": methods.ill_only()}
    whole = sweep(chosen, SPLIT, keys=KEYS, steps=10, batch_size=5, chunks=5)
    saved = {}

    def interrupt(made, runs):
        saved.update(jax.tree.map(lambda leaf: leaf.copy(), runs))
        if made >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(chosen, SPLIT, keys=KEYS, steps=10, batch_size=5, chunks=5, checkpoint=interrupt)
    assert steps_made(saved) == 4
    chex.assert_trees_all_equal_shapes_and_dtypes(saved, abstract_runs(chosen, SPLIT, KEYS))
    continued = sweep(chosen, SPLIT, keys=KEYS, steps=10, batch_size=5, chunks=5, runs=saved)
    chex.assert_trees_all_close(continued, whole, rtol=1e-9)


def test_bad_input_is_named():
    with pytest.raises(InputError, match="methods"):
        sweep({}, SPLIT, keys=KEYS)
    with pytest.raises(InputError, match="keys"):
        sweep({"a": methods.algorithm1()}, SPLIT, keys=KEYS[:0])
    with pytest.raises(InputError, match="stack_pairs"):
        sweep({"a": methods.algorithm1()}, SplitPair(PAIRS[0], PAIRS[0]), keys=KEYS)
    dark = SPLIT.train._replace(harmful=SPLIT.train.harmful._replace(x=SPLIT.train.harmful.x.at[1].set(0)))
    with pytest.raises(InputError, match=r"split.train\[1\].harmful.x"):
        sweep({"a": methods.algorithm1()}, SPLIT._replace(train=dark), keys=KEYS)
