"""Which weights are chosen to move, of prescribed gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from cimm_jax.networks.few_weights import is_chosen_at, more_chosen, none_chosen
from cimm_jax.numerics.trained_weights import FewWeights


def test_the_largest_ratios_are_chosen_round_by_round_but_of_matrices_alone():
    wanted = {"bias": jnp.full(4, 9.0), "kernel": jnp.asarray([[1.0, -8.0, 3.0], [4.0, 6.0, 0.0]])}
    unwanted = {"bias": jnp.full(4, 1e-3), "kernel": jnp.asarray([[1.0, 2.0, -1.0], [8.0, 1.0, 0.0]])}
    few = FewWeights(share=4 / 6, rounds=2)
    choose = jax.jit(lambda chosen: more_chosen(few, chosen, wanted, unwanted))
    first = choose(none_chosen(wanted))
    np.testing.assert_array_equal(first["kernel"], [[False, True, False], [False, True, False]])
    second = choose(first)
    np.testing.assert_array_equal(second["kernel"], [[True, True, True], [False, True, False]])
    third = choose(choose(second))
    assert int(third["kernel"].sum()) == 5, "what nothing wants to move is never chosen"
    assert not third["bias"].any()


def test_rounds_begin_within_the_first_half_of_the_steps():
    def begun(rounds, total):
        return [turn for turn in range(total) if is_chosen_at(FewWeights(0.1, rounds), turn, total)]

    assert begun(5, 200) == [0, 20, 40, 60, 80]
    assert begun(1, 200) == [0]
    assert begun(5, 3) == [0, 1, 2]
